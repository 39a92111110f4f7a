import pytest
import torch
from torchvision.transforms.v2 import functional as torchvision_functional

from gscnn.batch import SegBatch, normalize
from gscnn.constants import IGNORE_INDEX, IMAGE_MEAN, IMAGE_STD

FIELDS = ("image", "label", "gradient", "boundary")


def random_batch(images: int = 2, height: int = 5, width: int = 7) -> SegBatch:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 4, (images, height, width), generator=generator)
    label[:, 0] = IGNORE_INDEX
    return SegBatch(
        image=torch.randn(images, 3, height, width, generator=generator),
        label=label,
        gradient=torch.rand(images, 1, height, width, generator=generator),
        boundary=torch.randint(0, 2, (images, 1, height, width), generator=generator, dtype=torch.uint8),
    )


def test_to_moves_every_field_to_the_device() -> None:
    moved = random_batch().to(torch.device("meta"))
    assert {name: getattr(moved, name).device.type for name in FIELDS} == dict.fromkeys(FIELDS, "meta")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_to_keeps_values_and_types(memory_format: torch.memory_format) -> None:
    batch = random_batch()
    moved = batch.to(torch.device("cpu"), memory_format)
    for name in FIELDS:
        before, after = getattr(batch, name), getattr(moved, name)
        assert before.dtype == after.dtype, name
        assert torch.equal(before, after), name
    assert moved.image.is_contiguous(memory_format=memory_format)


def test_length_is_the_number_of_images() -> None:
    assert len(random_batch(images=3)) == 3


def test_fields_of_different_sizes_are_refused_in_tests() -> None:
    """The import hook of conftest.py is at work: without it no annotation of gscnn is ever checked."""
    batch = random_batch()
    with pytest.raises(TypeError, match="label"):
        SegBatch(batch.image, batch.label[:, 1:], batch.gradient, batch.boundary)


@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 3, 6, 5)])
def test_normalize_equals_torchvisions(shape: tuple[int, ...]) -> None:
    image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    unit = torchvision_functional.to_dtype(image, torch.float32, scale=True)
    expected = torchvision_functional.normalize(unit, list(IMAGE_MEAN), list(IMAGE_STD))
    torch.testing.assert_close(normalize(image), expected, rtol=0, atol=1e-6)


def test_normalize_maps_the_mean_colour_to_zero_and_one_deviation_to_one() -> None:
    rounded = [round(255 * mean) for mean in IMAGE_MEAN]
    image = torch.tensor(rounded, dtype=torch.uint8).view(3, 1, 1)
    expected = torch.tensor([(value / 255 - m) / s for value, m, s in zip(rounded, IMAGE_MEAN, IMAGE_STD, strict=True)])
    torch.testing.assert_close(normalize(image).flatten(), expected, rtol=0, atol=1e-6)
    assert normalize(image).abs().max() < 0.5 / 255 / min(IMAGE_STD) + 1e-6


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_normalize_refuses_what_is_not_uint8(dtype: torch.dtype) -> None:
    """Floats in [0, 1] would be divided by 255 once more, and every image would be black."""
    with pytest.raises(ValueError, match=f"image is {dtype}: need uint8 RGB of 0 to 255"):
        normalize(torch.zeros(3, 4, 5, dtype=dtype))
