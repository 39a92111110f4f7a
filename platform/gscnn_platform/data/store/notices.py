"""Notes on what a store lacks and what that means for training, shown when it is built and when training starts."""

import shlex
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from gscnn_platform.data.store.manifest import Manifest

TRAIN: Final = "train"
VAL: Final = "val"
SHOWN: Final = 5


def notices(manifest: Manifest, left_out: Collection[str] = ()) -> tuple[str, ...]:
    """A sentence for each thing that the store lacks.

    Args:
        manifest: the store's manifest.
        left_out: sentences on what the raw dataset has and the store does not.
    """
    missing = (*split_notices(manifest), *class_notices(manifest), *_missing_anchors(manifest))
    return (*left_out, *missing, *void_notices(manifest))


def turned_notice(count: int) -> Iterator[str]:
    """A sentence if images were rotated: if an image is square, its size does not show whether its label is upright."""
    if count:
        yield f"{count} samples are rotated upright by their EXIF orientation; their labels must be upright as well"


def void_notices(manifest: Manifest, splits: Collection[str] | None = None) -> Iterator[str]:
    """A sentence for each of these splits (None: all) that has labels without any class."""
    for name, split in manifest.splits.items():
        if split.all_void and (splits is None or name in splits):
            yield (
                f"{split.all_void} of {split.samples} labels of split {name} are entirely void: "
                "nothing is learned from these samples, and they have no score"
            )


def weight_notices(manifest: Manifest, split: str, weighting: str | Sequence[float] | None) -> Iterator[str]:
    """A sentence if class weights come from the pixels of `split` and it has a class without any."""
    names = without_pixels(manifest, split)
    if names and isinstance(weighting, str) and weighting != "image":
        yield (
            f"no label of split {split} has class {listed(names)}: with loss.class_weights {weighting}, it has the "
            "largest weight of the other classes"
        )


def split_notices(manifest: Manifest) -> Iterator[str]:
    """A sentence if there is no split to validate on."""
    if VAL in manifest.splits:
        return
    others = [name for name in manifest.splits if name != TRAIN]
    another = f"validate on another split (--data.val-split {shlex.quote(others[0])}), " if others else ""
    yield (
        f"there is no split {VAL}, which training validates on: {another}hold out a share of {TRAIN} "
        "(--data.val-share 0.1), or train without validation (--data.val-split None)"
    )


def class_notices(manifest: Manifest) -> Iterator[str]:
    """A sentence if the training split has a class without any pixel."""
    names = without_pixels(manifest, TRAIN) if TRAIN in manifest.splits else []
    if names:
        yield (
            f"no label of split {TRAIN} has class {listed(names)}, so no model can learn it; "
            "check the raw values that map to it"
        )


def without_pixels(manifest: Manifest, split: str) -> list[str]:
    """The classes that no label of the split has."""
    pixels = manifest.splits[split].pixels
    return [name for name, count in zip(manifest.identity.classes, pixels, strict=False) if not count]


def listed(names: Sequence[str]) -> str:
    """The first SHOWN names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _missing_anchors(manifest: Manifest) -> Iterator[str]:
    if not manifest.anchors:
        yield (
            "it has no anchors of classes, as stores of earlier versions: --data.class-uniform needs a rebuilt one, "
            "which has the same fingerprint; add --overwrite"
        )
