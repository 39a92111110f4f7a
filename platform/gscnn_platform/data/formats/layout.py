"""Finds the splits that have labels and pairs images with labels, for all formats that read files."""

from collections.abc import Callable, Mapping
from typing import Final

from gscnn_platform.data.formats.base import DatasetError, FileSample, Sample
from gscnn_platform.data.formats.decoding import BadSampleError, read_label
from gscnn_platform.data.image_files import (
    ANY_IMAGE,
    IMAGE_ENDINGS,
    LABEL_ENDINGS,
    files_below,
    followed,
    has_ending,
    name_of,
    named_alike,
    named_files,
    require_utf8,
)
from gscnn_platform.paths import AnyPath

NO_SPLITS: Final = ("held-out", "None")
"""Values of `jobs.evaluate --split` and `--data.val-split` that do not name a split."""


def existing(splits: Mapping[str, tuple[AnyPath, AnyPath]]) -> dict[str, tuple[AnyPath, AnyPath]]:
    """Those of `splits` (name -> folders of its images and of its labels) for which at least one folder exists."""
    return {split: folders for split, folders in splits.items() if any(followed(at).is_dir() for at in folders)}


def labelled(splits: Mapping[str, tuple[AnyPath, AnyPath]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The splits that have labels, and a sentence for each split that has only images.

    Args:
        splits: name -> folders of its images and of its labels; at least one of the two exists.

    Raises:
        DatasetError: `train` has no labels, or a split has no images or an invalid name.
        InputError: a folder cannot be read, or a link is broken.
    """
    there: list[str] = []
    left_out: list[str] = []
    for split, (images, labels) in splits.items():
        has_images = followed(images).is_dir()
        if followed(labels).is_dir() and any(has_ending(file.name, ANY_IMAGE) for file in files_below(labels)):
            if not has_images:
                alike = named_alike(images)
                raise DatasetError(f"{images}: the folder is missing; split {split!r} needs images for {labels}{alike}")
            there.append(checked_split(split, images))
            continue
        lack, alike = ("has no label", "") if labels.is_dir() else ("is missing", named_alike(labels))
        if split == "train":
            raise DatasetError(f"{labels}: the folder {lack}; training needs a label for each image in {images}{alike}")
        count = sum(1 for file in files_below(images) if has_ending(file.name, ANY_IMAGE)) if has_images else 0
        if count:
            left_out.append(
                f"split {split} is left out because {labels} {lack}: its {count} images are not in the store{alike}"
            )
    return tuple(there), tuple(left_out)


def require_train(present: Mapping[str, object], expected: AnyPath, way_out: str) -> None:
    """Raises DatasetError, naming the `expected` folder and the way out, if no split is named train."""
    if "train" not in present:
        raise DatasetError(f"{expected}: the folder is missing; {way_out}{named_alike(expected)}")


def image_files(folder: AnyPath) -> dict[str, AnyPath]:
    """Name -> image, for all images below `folder`. Raises DatasetError if there is none, or if two have one name."""
    found = named_files(folder, IMAGE_ENDINGS, DatasetError)
    if not found:
        raise DatasetError(f"{folder}: it has no image ({', '.join(IMAGE_ENDINGS)}); is it the right root?")
    return found


def label_files(folder: AnyPath) -> dict[str, AnyPath]:
    """Name -> label, for all labels below `folder`.

    Raises:
        DatasetError: there is no label, none has a lossless format, or two have the same name.
    """
    found = named_files(folder, LABEL_ENDINGS, DatasetError)
    if not found:
        raise DatasetError(f"{folder}: it has no label ({', '.join(LABEL_ENDINGS)}); is it the right root?")
    if not any(has_ending(file.name, LABEL_ENDINGS) for file in found.values()):
        first = min(found.values())
        try:
            read_label(first)
            why = f"{first} does not have one of these endings"
        except BadSampleError as error:
            why = str(error)
        raise DatasetError(
            f"{folder}: none of its {len(found)} labels can be used; labels are read from {', '.join(LABEL_ENDINGS)}\n"
            f"{why}"
        )
    return found


def files_ending(folder: AnyPath, ending: str) -> dict[str, AnyPath]:
    """Path below `folder` without `ending` -> file. Raises DatasetError if there is none."""
    there = files_below(folder)
    found = {name_of(file, folder, ending): file for file in there if has_ending(file.name, (ending.lower(),))}
    if not found:
        others = [file for file in there if has_ending(file.name, ANY_IMAGE)]
        named = f"none of its {len(others)} images is named *{ending}, for example {others[0]}" if others else ""
        raise DatasetError(f"{folder}: {named or f'no file named *{ending}; is it the right root?'}")
    return found


def pair_folders(images: AnyPath, labels: AnyPath, image_ending: str = ".png") -> list[Sample]:
    """One sample for each image below `images` and each label below `labels`, paired by name and sorted.

    A missing image is expected with `image_ending`, a missing label as PNG. Raises DatasetError if a folder is empty.
    """
    return pair(
        image_files(images),
        label_files(labels),
        image_at=lambda name: images / f"{name}{image_ending}",
        label_at=lambda name: labels / f"{name}.png",
    )


def pair(
    images: Mapping[str, AnyPath],
    labels: Mapping[str, AnyPath],
    image_at: Callable[[str], AnyPath],
    label_at: Callable[[str], AnyPath],
    sample: Callable[[str, AnyPath, AnyPath], Sample] = FileSample,
) -> list[Sample]:
    """One sample for each name in `images` or `labels`, sorted by name.

    `image_at` and `label_at` return the expected path of a missing image or label; reading the sample reports it.
    `sample` creates it from its name, image and label.

    Raises:
        DatasetError: no image and label have the same name.
    """
    if not images.keys() & labels.keys():
        image, label = images[min(images)], labels[min(labels)]
        raise DatasetError(
            f"no label has the name of an image: there are images such as {image} and labels such as {label}; name "
            f"each label after its image: {label_at(min(images))}"
        )
    return [
        sample(name, images.get(name) or image_at(name), labels.get(name) or label_at(name))
        for name in sorted(images.keys() | labels.keys())
    ]


def checked_split(split: str, images: AnyPath) -> str:
    """The split's name if it is valid as a folder of the store and as an option's value. Raises DatasetError."""
    require_utf8(images)
    if split in NO_SPLITS or split.startswith("-") or "\\" in split or not split.isprintable():
        raise DatasetError(
            f"{images}: {split!r} is not a valid split name: rename the folder, without a backslash, a line break or a "
            f"leading dash, and not to {' or '.join(NO_SPLITS)}"
        )
    return split
