from pathlib import Path

import numpy as np
import pytest

from gscnn_platform.config import EdgeConfig, with_overrides
from gscnn_platform.data.store import Store, StoreError
from gscnn_platform.inspection.fitting import TRIED, Amount, fitted, small_store, spread, training_command
from gscnn_platform.recipes import CAMVID_TINY, STREETS


def test_a_fitted_recipe_has_the_datasets_classes_and_edges_and_its_command_names_them() -> None:
    config = fitted(CAMVID_TINY, classes=3, edges=EdgeConfig(radius=4))
    assert (config.model.num_classes, config.data.edges.radius) == (3, 4)
    assert config.training == CAMVID_TINY.training
    assert training_command(CAMVID_TINY, config, "my data") == (
        "python -m jobs.train camvid-tiny --store 'my data' --model.num-classes 3 --data.edges.radius 4"
    )
    switched = with_overrides(CAMVID_TINY, {"data.edges.void_edges": True, "training.channels_last": False})
    assert training_command(CAMVID_TINY, switched, "s").endswith("--data.edges.void-edges --training.no-channels-last")
    assert training_command(CAMVID_TINY, CAMVID_TINY, "s") == "python -m jobs.train camvid-tiny --store s"


@pytest.mark.parametrize(
    ("settings", "training", "validation"),
    [
        ({}, 20, 7),
        ({"data.val_share": 0.25}, 15, 5),
        ({"data.val_split": None}, 20, 0),
        ({"data.val_split": "x"}, 20, 0),
    ],
)
def test_the_amount_is_that_of_the_splits_and_held_out_samples(
    settings: dict[str, object], training: int, validation: int
) -> None:
    config = with_overrides(STREETS, settings)
    assert Amount.of({"train": 20, "val": 7}, config) == Amount(training, validation)


def test_a_small_store_holds_the_samples_that_it_is_given(streets_store: Store, tmp_path: Path) -> None:
    identity, reader = streets_store.manifest.identity, streets_store.split("train")
    given = [(reader.names[index], reader.read(index, anchors=True)) for index in (1, 3)]
    small = small_store(tmp_path, "train", identity.classes, identity.colours, identity.edges, given)
    read = small.split("train")
    assert (read.names, list(small.manifest.splits)) == ([reader.names[1], reader.names[3]], ["train"])
    for index, (_, arrays) in enumerate(given):
        np.testing.assert_array_equal(read.read(index).image, arrays.image)
        np.testing.assert_array_equal(read.read(index).gradient, arrays.gradient)
    labels = np.concatenate([arrays.label.ravel() for _, arrays in given])
    written = small.manifest.splits["train"]
    assert written.pixels == tuple(int((labels == train_id).sum()) for train_id in range(len(identity.classes)))
    assert written.void_pixels == int((labels == 255).sum())
    assert sorted(read.having) == sorted(set(labels.tolist()) - {255})


def test_a_small_store_of_no_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no sample of split train can be used"):
        small_store(tmp_path, "train", ("a", "b"), ((0, 0, 0), (1, 1, 1)), EdgeConfig(), [])


@pytest.mark.parametrize("count", [0, 1, TRIED, TRIED + 1, 1000])
def test_samples_are_taken_from_all_over_a_split(count: int) -> None:
    indices = spread(count)
    assert len(indices) == len(set(indices)) == min(count, TRIED)
    assert all(0 <= index < count for index in indices)
    assert count < TRIED or max(np.diff([0, *indices, count])) <= -(-count // TRIED)
