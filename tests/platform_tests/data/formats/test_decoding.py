"""What image and label files are read as, and what is said of those that are not read."""

import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from gscnn_platform.data.formats import BadSampleError, DatasetError
from gscnn_platform.data.formats.base import FileSample
from gscnn_platform.data.formats.decoding import read_image, read_label, upright
from gscnn_platform.data.formats.folder import Folder
from tests.layouts import random_image, random_label, write_folder, write_image

RNG = np.random.default_rng(0)


def with_orientation(path: Path, pixels: np.ndarray, orientation: int) -> Path:
    """`pixels` as they are stored, with EXIF's mark."""
    exif = Image.Exif()
    exif[0x112] = orientation
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {}
    if path.suffix == ".webp":
        options = {"lossless": True}
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


def tiff(
    path: Path,
    bands: int,
    bits: int = 8,
    kind: int = 1,
    extra: tuple[int, ...] = (),
    pages: int = 1,
    compression: int = 1,
    photometric: int | None = None,
) -> Path:
    """A TIFF of 5 x 4 pixels, all zero, chunky, with the tags that are asked for."""
    width, height = 5, 4
    out = io.BytesIO(b"II*\0" + struct.pack("<I", 8))
    out.seek(8)
    for page in range(pages):
        tags = [(256, 3, [width]), (257, 3, [height]), (258, 3, [bits] * bands), (259, 3, [compression])]
        colours = (2 if bands > 2 else 1) if photometric is None else photometric
        tags += [(262, 3, [colours]), (273, 4, [0]), (277, 3, [bands]), (278, 3, [height])]
        tags += [(279, 4, [width * height * bands * bits // 8])]
        tags += [(338, 3, list(extra))] if extra else []
        tags += [(339, 3, [kind] * bands)]
        start = out.tell()
        after = start + 2 + 12 * len(tags) + 4
        stored = b""
        entries = b""
        data_at = after + sum(2 * len(values) for _, type_, values in tags if type_ == 3 and len(values) > 2)
        for tag, type_, values in tags:
            if tag == 273:
                values = [data_at]
            packed = struct.pack(f"<{len(values)}{'H' if type_ == 3 else 'I'}", *values)
            if len(packed) > 4:
                stored, packed = stored + packed, struct.pack("<I", after + len(stored))
            entries += struct.pack("<HHI", tag, type_, len(values)) + packed.ljust(4, b"\0")
        end = data_at + width * height * bands * bits // 8
        out.write(struct.pack("<H", len(tags)) + entries + struct.pack("<I", end if page + 1 < pages else 0) + stored)
        out.write(bytes(width * height * bands * bits // 8))
    path.write_bytes(out.getvalue())
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif"])
def test_an_image_is_read_as_pillow_turns_it_upright(tmp_path: Path, ending: str, orientation: int) -> None:
    pixels = np.kron(RNG.integers(0, 256, (3, 5, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    path = with_orientation(tmp_path / f"a{ending}", pixels, orientation)
    with Image.open(path) as file:
        expected = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    read = read_image(path)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).max() <= (4 if ending == ".jpg" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_label_with_its_own_orientation_is_rotated_too(tmp_path: Path, ending: str, orientation: int) -> None:
    label = random_label(RNG, [0, 1, 2])
    path = with_orientation(tmp_path / f"a{ending}", label, orientation)
    np.testing.assert_array_equal(read_label(path), upright(label, orientation))


@pytest.mark.parametrize("size", [(40, 60), (48, 48)])
def test_a_rotated_photograph_is_aligned_with_its_upright_label(tmp_path: Path, size: tuple[int, int]) -> None:
    scene = np.kron(RNG.integers(0, 256, (size[0] // 4, size[1] // 4, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    image = with_orientation(tmp_path / "a.png", np.ascontiguousarray(np.rot90(scene)), 6)
    label = write_image(tmp_path / "label.png", scene[..., 0])
    read, raw = FileSample("a", image, label).read()
    np.testing.assert_array_equal(read, scene)
    np.testing.assert_array_equal(raw, read[..., 0])


def test_a_label_of_the_unrotated_picture_is_rejected_with_both_sizes_and_the_reason(tmp_path: Path) -> None:
    image = with_orientation(tmp_path / "a.png", random_image(RNG), 6)
    label = write_image(tmp_path / "label.png", np.zeros((40, 60), np.uint8))
    with pytest.raises(BadSampleError, match=r"a\.png is 40x60 but .*label\.png is 60x40 .*EXIF orientation.*exiftool"):
        FileSample("a", image, label).read()


def test_the_digest_of_a_rotated_image_differs_from_that_of_older_stores(tmp_path: Path) -> None:
    label = write_image(tmp_path / "label.png", np.zeros((40, 60), np.uint8))
    for orientation in (1, 6):
        image = with_orientation(tmp_path / "a.png", random_image(RNG), orientation)
        plain = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in (image, label)))
        turned = "" if orientation == 1 else " upright"
        assert FileSample("a", image, label).digest() == plain.hexdigest() + turned


@pytest.mark.parametrize(
    ("bands", "bits", "kind", "extra", "message"),
    [
        (5, 8, 1, (0, 0), r"5 bands of 8-bit unsigned integers; images have 1 \(grey\) or 3 .* -b 1 -b 2 -b 3 IN OUT"),
        (4, 8, 1, (), r"4 bands of 8-bit unsigned integers; the file does not declare the fourth as alpha"),
        (4, 8, 1, (0,), r"4 bands of 8-bit unsigned integers; the file does not declare the fourth as alpha"),
        (1, 32, 3, (), r"1 band of 32-bit floats; .* gdal_translate -ot Byte -scale IN OUT"),
        (3, 16, 1, (), r"3 bands of 16-bit unsigned integers; .* -b 1 -b 2 -b 3 -ot Byte -scale"),
        (1, 8, 2, (), r"1 band of 8-bit signed integers"),
        (2, 8, 1, (), r"2 bands of 8-bit unsigned integers"),
    ],
)
def test_a_tiff_with_other_bands_or_types_is_rejected_with_both_named(
    tmp_path: Path, bands: int, bits: int, kind: int, extra: tuple[int, ...], message: str
) -> None:
    path = tiff(tmp_path / "a.tif", bands, bits, kind, extra)
    with pytest.raises(BadSampleError, match=rf"a\.tif: the image is a TIFF of {message}"):
        read_image(path)


@pytest.mark.parametrize(("bands", "extra"), [(1, ()), (3, ()), (4, (1,)), (4, (2,))])
def test_grey_rgb_and_declared_alpha_are_read(tmp_path: Path, bands: int, extra: tuple[int, ...]) -> None:
    assert read_image(tiff(tmp_path / "a.tif", bands, extra=extra)).shape == (4, 5, 3)


def test_several_pages_are_rejected_and_smaller_copies_are_not(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match=r"a\.tif: the image is a TIFF of 3 pages; a file must have one"):
        read_image(tiff(tmp_path / "a.tif", 3, pages=3))
    with pytest.raises(BadSampleError, match=r"b\.tif: the label is a TIFF of 2 pages"):
        read_label(tiff(tmp_path / "b.tif", 1, pages=2))


def test_label_tiffs_of_floats_or_bands_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match=r"the label is a TIFF of 1 band of 32-bit floats; a label has 1 band"):
        read_label(tiff(tmp_path / "a.tif", 1, 32, 3))
    with pytest.raises(BadSampleError, match=r"the label is a TIFF of 2 bands of 8-bit unsigned integers"):
        read_label(tiff(tmp_path / "b.tif", 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # Pillow reads the values 1, 2, 3 as 17, 34, 51, as 85, 170, 255, and as 254, 253, 252.
        (
            {"bits": 4},
            r"a TIFF of 1 band of 4-bit unsigned integers; a label has 1 band of 8, 16 or 32",
        ),
        ({"bits": 2}, r"a TIFF of 1 band of 2-bit unsigned integers; a label has"),
        ({"photometric": 0}, r"a TIFF whose 0 is white, which some programs read as 255: .*PHOTOMETRIC=MINISBLACK"),
        ({"bits": 64}, r"a TIFF of 1 band of 64-bit unsigned integers; a label has"),
        ({"compression": 7}, r"a TIFF compressed as JPEG, which changes values"),
    ],
)
def test_a_label_tiff_whose_values_would_change_on_reading_is_rejected(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSampleError, match=rf"a\.tif: the label is {message}"):
        read_label(tiff(tmp_path / "a.tif", 1, **options))


@pytest.mark.parametrize(("colours", "name", "bands"), [(5, "CMYK", 4), (8, "CIELab", 3)])
def test_a_tiff_in_another_colour_space_is_rejected_with_its_name(
    tmp_path: Path, colours: int, name: str, bands: int
) -> None:
    message = rf"{bands} bands of 8-bit unsigned integers \({name}\); images have .* magick IN -colorspace sRGB OUT"
    with pytest.raises(BadSampleError, match=message):
        read_image(tiff(tmp_path / "a.tif", bands, photometric=colours))


def test_three_bands_declared_as_grey_are_rejected(tmp_path: Path) -> None:
    for bands, extra in ((3, (0, 0)), (3, ()), (4, (0, 0, 2))):
        with pytest.raises(BadSampleError, match=r"8-bit unsigned integers that the file declares as grey; .*=RGB"):
            read_image(tiff(tmp_path / "a.tif", bands, extra=extra, photometric=1))


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_alpha_of_a_tiff_is_dropped_without_multiplying_by_it(tmp_path: Path, orientation: int) -> None:
    pixels = random_image(RNG)
    rgba = Image.fromarray(np.dstack([pixels, random_label(RNG, [0, 128, 255])]))
    rgba.save(tmp_path / "a.tif", tiffinfo={0x112: orientation})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), upright(pixels, orientation))


@pytest.mark.parametrize("ending", [".png", ".webp"])
def test_an_animation_is_rejected(tmp_path: Path, ending: str) -> None:
    first, second = (Image.fromarray(random_image(RNG)) for _ in range(2))
    first.save(tmp_path / f"a{ending}", save_all=True, append_images=[second])
    with pytest.raises(BadSampleError, match=rf"a\{ending}: the image is animated; a file must hold one picture"):
        read_image(tmp_path / f"a{ending}")


def test_a_raw_camera_file_is_rejected_because_only_its_preview_could_be_read(tmp_path: Path) -> None:
    Image.fromarray(random_image(RNG)).save(tmp_path / "a.tif", tiffinfo={254: 1})
    path = (tmp_path / "a.tif").rename(tmp_path / "a.NEF")
    with pytest.raises(BadSampleError, match=r"a\.NEF: a raw camera file; only its preview could be read"):
        read_image(path)


def test_a_link_to_a_file_that_was_not_fetched_is_named_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(".git/annex/objects/a.png")
    with pytest.raises(BadSampleError, match=r"a\.png, a link to \.git/annex/objects/a\.png: the file is missing$"):
        read_image(tmp_path / "a.png")


def test_a_folder_named_like_an_image_is_reported_once_as_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadSampleError, match=rf"^{tmp_path}: the file cannot be read \(Is a directory\)$"):
        read_image(tmp_path)


@pytest.mark.parametrize(("ending", "kind"), [(".jpg", "a JPEG"), (".webp", "a WebP")])
def test_labels_in_lossy_formats_are_rejected_with_the_true_reason(tmp_path: Path, ending: str, kind: str) -> None:
    root = write_folder(tmp_path)
    for path in list((root / "labels").rglob("*.png")):
        write_image(path.with_suffix(ending), np.asarray(Image.open(path)))
        path.unlink()
    message = (
        rf"labels/train: none of its 2 labels can be used; .*\n.*train_0\{ending}: the label is {kind}, which changes"
    )
    with pytest.raises(DatasetError, match=message):
        Folder().samples(root, "train")


def test_a_lossless_webp_label_is_rejected_for_its_colours_and_not_as_lossy(tmp_path: Path) -> None:
    Image.fromarray(random_label(RNG, [0, 1])).save(tmp_path / "a.webp", lossless=True)
    with pytest.raises(BadSampleError, match=r"a\.webp: the label has colours \(mode RGB\)"):
        read_label(tmp_path / "a.webp")


def test_one_jpeg_among_the_labels_is_a_bad_sample_by_whatever_name(tmp_path: Path) -> None:
    root = write_folder(tmp_path, frames=3)
    first, second = (root / f"labels/train/train_{number}.png" for number in (0, 1))
    for path in (first, second):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    second.with_suffix(".jpg").rename(second)
    samples = Folder().samples(root, "train")
    for sample, name in zip(samples, (r"train_0\.jpg", r"train_1\.png"), strict=False):
        with pytest.raises(BadSampleError, match=rf"{name}: the label is a JPEG, which changes values"):
            sample.read()
    samples[2].read()


def test_other_label_files_are_reported_with_their_type(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    for path in list((root / "labels/train").iterdir()):
        np.save(path.with_suffix(".npy"), np.asarray(Image.open(path)))
        path.unlink()
    with pytest.raises(DatasetError, match=r"labels are read from \.png.*\n.*train_0\.npy: .* it is a NumPy array"):
        Folder().samples(root, "train")


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"GIF89a", "a GIF"),
        (b"\0\0\0\x18ftypheic", "a HEIC"),
        (b"\0\0\0\x1cftypavif", "an AVIF"),
        (b"\x93NUMPY\x01", "a NumPy array"),
        (b"version https://git-lfs.github.com/spec/v1", r"a Git LFS pointer, .*git lfs pull"),
        (b"/annex/objects/SHA256E-s1--0", r"a git-annex pointer, .*git annex get"),
        (b"<!DOCTYPE html>", "XML or HTML"),
    ],
)
def test_files_that_are_not_images_are_reported_with_their_type(tmp_path: Path, begin: bytes, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(begin + bytes(200))
    for read, what in ((read_image, "image"), (read_label, "label")):
        with pytest.raises(
            BadSampleError, match=rf"a\.png: the {what} cannot be decoded: it is {kind}.*; supported are"
        ):
            read(tmp_path / "a.png")


@pytest.mark.parametrize(("begin", "kind"), [(b"\x00\x01", "of another type"), (b"\x89PNG\r\n\x1a\n", "a PNG")])
def test_an_image_file_without_a_header_is_reported_as_damaged(tmp_path: Path, begin: bytes, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(begin + bytes(200))
    with pytest.raises(BadSampleError, match=rf"cannot be decoded: no header .*; it is {kind}, truncated or damaged"):
        read_image(tmp_path / "a.png")
