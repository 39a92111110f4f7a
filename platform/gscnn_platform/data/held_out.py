"""Chooses the samples that a run trains and validates on: two splits, or one split with a held-out share."""

from typing import Final

import numpy as np

from gscnn_platform.config import DataConfig
from gscnn_platform.data.store import SplitReader, StaleStoreError, Store

HELD_OUT: Final = "held-out"
"""The split name for the samples that a run has held out."""


def held_out(count: int, share: float, seed: int) -> list[int]:
    """Sorted random indices of `share` of `count` samples: rounded, at least 1 and at most `count` - 1.

    Deterministic: every worker, a resumed run and an evaluation hold out the same samples.
    """
    size = min(max(round(share * count), 1), count - 1)
    return sorted(np.random.default_rng(seed).permutation(count)[:size].tolist())


def training_samples(store: Store, data: DataConfig) -> SplitReader:
    """The samples that a run trains on. Raises StoreError as `Store.split` does."""
    reader = store.split(data.train_split)
    if not data.val_share:
        return reader
    out = set(_held_out(reader, data))
    return reader.subset([index for index in range(len(reader)) if index not in out])


def validation_samples(store: Store, data: DataConfig) -> SplitReader | None:
    """The samples that a run validates on; None if it does not validate. Raises StoreError as `Store.split` does."""
    if data.val_share:
        reader = store.split(data.train_split)
        return reader.subset(_held_out(reader, data))
    return None if data.val_split is None else store.split(data.val_split)


def describe_validation(data: DataConfig, reader: SplitReader | None) -> str:
    """A description of a run's validation samples, for users."""
    if reader is None:
        return "no validation: the last checkpoint counts as the best"
    what = f"{len(reader)} samples"
    return f"validating on {what} " + (
        f"held out of split {data.train_split} (val_share {data.val_share:g}, val_seed {data.val_seed})"
        if data.val_share
        else f"of split {data.val_split}"
    )


def _held_out(reader: SplitReader, data: DataConfig) -> list[int]:
    if len(reader) < 2:
        raise StaleStoreError(
            f"data.val_share is {data.val_share:g}, and split {data.train_split} has {len(reader)} sample: two or more "
            "are needed to hold one out; train without validation: --data.val-share 0 --data.val-split None"
        )
    return held_out(len(reader), data.val_share, data.val_seed)
