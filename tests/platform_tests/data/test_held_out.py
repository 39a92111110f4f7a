from pathlib import Path

import numpy as np
import pytest

from gscnn_platform.config import DataConfig
from gscnn_platform.data.formats.folder import Folder
from gscnn_platform.data.held_out import describe_validation, held_out, training_samples, validation_samples
from gscnn_platform.data.store import StaleStoreError, Store, open_store
from tests.layouts import write_folder
from tests.stores import build_store


@pytest.mark.parametrize(
    ("count", "share", "size"), [(367, 0.1, 37), (6, 0.5, 3), (6, 0.01, 1), (6, 0.99, 5), (2, 0.5, 1)]
)
def test_at_least_one_sample_is_held_out_and_never_all(count: int, share: float, size: int) -> None:
    chosen = held_out(count, share, 0)
    assert len(set(chosen)) == len(chosen) == size
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(range(count))
    assert chosen == held_out(count, share, 0)


def test_seeds_hold_out_different_samples_evenly() -> None:
    counts = np.bincount(np.concatenate([held_out(20, 0.2, seed) for seed in range(500)]), minlength=20)
    assert counts.sum() == 2000
    assert 70 < counts.min() <= counts.max() < 130  # 100 each, with a standard deviation of 9.


def test_every_sample_is_either_held_out_or_trained_on(streets_store: Store) -> None:
    data = DataConfig(val_share=0.4)
    whole = streets_store.split("train")
    trained, validated = training_samples(streets_store, data), validation_samples(streets_store, data)
    assert validated is not None
    assert (len(trained), len(validated)) == (4, 2)
    assert not set(trained.names) & set(validated.names)
    assert sorted([*trained.names, *validated.names]) == whole.names
    for reader in (trained, validated):
        for index, name in enumerate(reader.names):
            there = whole.read(whole.names.index(name))
            np.testing.assert_array_equal(reader.read(index).image, there.image)


def test_a_run_holds_out_nothing_by_default(streets_store: Store) -> None:
    readers = training_samples(streets_store, DataConfig()), validation_samples(streets_store, DataConfig())
    assert [reader.names for reader in readers if reader] == [
        streets_store.split(name).names for name in ("train", "val")
    ]
    assert validation_samples(streets_store, DataConfig(val_split=None)) is None


def test_a_store_without_val_needs_a_share_or_no_validation_and_says_both(tmp_path: Path) -> None:
    store = build_store(tmp_path / "store", Folder(), write_folder(tmp_path / "raw", splits=("train",)))
    with pytest.raises(StaleStoreError, match=r"no split 'val' to validate on; it has: train\n.*--data.val-share 0\.1"):
        open_store(store.path, DataConfig())
    for data in (DataConfig(val_share=0.5), DataConfig(val_split=None)):
        open_store(store.path, data)


def test_one_sample_cannot_be_shared(tmp_path: Path) -> None:
    store = build_store(tmp_path / "store", Folder(), write_folder(tmp_path / "raw", splits=("train",), frames=1))
    with pytest.raises(StaleStoreError, match=r"val_share is 0\.5, and split train has 1 sample"):
        training_samples(store, DataConfig(val_share=0.5))


def test_the_description_names_the_validation_samples(streets_store: Store) -> None:
    data = DataConfig(val_share=0.4, val_seed=3)
    assert describe_validation(data, validation_samples(streets_store, data)) == (
        "validating on 2 samples held out of split train (val_share 0.4, val_seed 3)"
    )
    assert (
        describe_validation(DataConfig(val_split=None), None) == "no validation: the last checkpoint counts as the best"
    )
