from itertools import islice

import numpy as np
import pytest

from gscnn.constants import IMAGE_MEAN, IMAGE_STD
from gscnn_platform.config import ExperimentConfig, with_overrides
from gscnn_platform.data.loader import batches, epoch_plan
from gscnn_platform.data.store import Store
from gscnn_platform.inspection.augmented import augmented_crops

SHUFFLED = {"training.epochs": 4}
SOME_REPEATED = {"training.epochs": 3, "training.batch_size": 5}
BY_CLASS = {"training.epochs": 4, "data.class_uniform": 0.5}
DERIVED = {"training.epochs": 2, "augmentation.gradient": "derived", "data.boundary_radius": 3}


@pytest.mark.parametrize("settings", [SHUFFLED, SOME_REPEATED, BY_CLASS, DERIVED])
@pytest.mark.parametrize("index", [0, 4])
def test_the_view_shows_the_pixels_of_the_crops_that_training_takes_of_the_sample(
    tiny_run: ExperimentConfig, streets_store: Store, settings: dict[str, object], index: int
) -> None:
    config, reader = with_overrides(tiny_run, settings), streets_store.split("train")
    plans = [epoch_plan(reader, config, epoch)[0] for epoch in range(config.training.epochs)]
    steps = batches(reader, config)
    taken = [(next(steps), place) for plan in plans for samples in plan for place in [np.flatnonzero(samples == index)]]
    of_sample = [(batch, int(place)) for batch, places in taken for place in places]
    crops = augmented_crops(reader, config, index, streets_store.manifest.identity.colours, len(of_sample))
    assert len(crops) == len(of_sample) > 1
    for crop, (batch, place) in zip(crops, of_sample, strict=True):
        pixels = batch.image[place].permute(1, 2, 0).double().numpy() * IMAGE_STD + IMAGE_MEAN
        np.testing.assert_array_equal(crop.image, np.rint(255 * pixels))
        np.testing.assert_array_equal(crop.label, batch.label[place])
        np.testing.assert_array_equal(crop.prior, np.rint(255 * batch.gradient[place, 0].double().numpy()))
        np.testing.assert_array_equal(crop.boundary, batch.boundary[place, 0])


def test_the_label_has_the_colours_of_its_classes(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    colours = streets_store.manifest.identity.colours
    for crop in augmented_crops(streets_store.split("train"), tiny_run, 2, colours, 2):
        for train_id in np.unique(crop.label):
            expected = colours[train_id] if train_id < len(colours) else (0, 0, 0)
            assert (crop.colours[crop.label == train_id] == expected).all()


def test_the_view_depends_on_the_seed_alone(tiny_run: ExperimentConfig, streets_store: Store) -> None:
    reader, colours = streets_store.split("train"), streets_store.manifest.identity.colours
    first, again, other = (
        augmented_crops(reader, with_overrides(tiny_run, {"seed": seed}), 1, colours, 3) for seed in (0, 0, 1)
    )
    for crop, same, different in islice(zip(first, again, other, strict=True), 3):
        np.testing.assert_array_equal(crop.image, same.image)
        assert (crop.image != different.image).any()
