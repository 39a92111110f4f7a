"""The authors' released checkpoint as a model of every job, against their network written anew. Values from a seed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gscnn.batch import normalize
from gscnn.edges import image_gradient
from gscnn.released_weights import released_edge_prior
from gscnn_platform.config import ExperimentConfig, PredictConfig
from gscnn_platform.data.formats import FORMATS
from gscnn_platform.data.store import Store
from gscnn_platform.exporting import _metadata
from gscnn_platform.prediction.record import PredictionSettings
from gscnn_platform.runs.checkpoint import CheckpointError
from gscnn_platform.runs.loading import LoadedModel, load_model
from gscnn_platform.weight_files import sha256_of
from tests.layouts import write_cityscapes
from tests.saved import save_checkpoint
from tests.weights import prefixed, released_network, released_weights, saved


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = {"state_dict": prefixed(released_weights()), "epoch": 174, "mean_iu": np.float64(0.8)}
    return saved(tmp_path_factory.mktemp("released") / "checkpoint.pth", weights)


@pytest.fixture(scope="module")
def loaded(file: Path) -> LoadedModel:
    return load_model(file)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def test_a_prior_of_one_gives_the_logits_that_the_released_network_has_of_255(loaded: LoadedModel) -> None:
    image = picture(0)
    pixels = normalize(torch.from_numpy(image).permute(2, 0, 1))[None]
    prior = torch.from_numpy(image_gradient(image, loaded.config.data.edges.gradient))[None, None]
    assert set(prior.unique().tolist()) == {0, 1}
    with torch.no_grad():
        ours = loaded.model(pixels, prior)
        logits, edge = released_network()(pixels, released_edge_prior(pixels))
        without = loaded.model(pixels, torch.zeros_like(prior))
    assert ours.edge_logits is not None
    scale = float(logits.std())
    assert scale > 1e-3
    torch.testing.assert_close(ours.seg_logits, logits, rtol=1e-3, atol=1e-3 * scale)
    torch.testing.assert_close(ours.edge_logits, edge, rtol=1e-3, atol=1e-3 * float(edge.std()))
    assert (without.seg_logits - logits).abs().max() > 0.01 * scale, "the prior counts"


def test_it_has_cityscapes_classes_and_says_where_it_is_from(loaded: LoadedModel, file: Path, tmp_path: Path) -> None:
    expected = FORMATS["cityscapes"].describe(write_cityscapes(tmp_path / "raw"))
    assert (loaded.dataset.classes, loaded.dataset.colours) == (expected.classes, expected.colours)
    assert loaded.dataset.raw_ids.tolist()[:3] == [7, 8, 11]
    assert loaded.file is not None
    assert (loaded.run_id, loaded.file.location) == (None, str(file))
    assert loaded.origin == f"sha256:{sha256_of(file)}"
    metadata = _metadata(loaded)
    assert (metadata["edge_prior"], metadata["weights_sha256"]) == ("released", sha256_of(file))
    config = PredictConfig(checkpoint=str(file), input=("a",), out="b")
    assert PredictionSettings.of(config, loaded).run_id == loaded.origin


def test_its_uri_loads_the_same_weights(loaded: LoadedModel, file: Path) -> None:
    again = load_model(file.as_uri())
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in loaded.model.state_dict().items())
    assert again.origin == loaded.origin


def test_a_file_that_is_not_the_authors_is_refused_with_what_to_pass(
    tmp_path: Path, tiny_run: ExperimentConfig, streets_store: Store
) -> None:
    (tmp_path / "page.pth").write_text("<html>Sign in")
    with pytest.raises(CheckpointError, match=r"page\.pth is not a checkpoint: it is a web page"):
        load_model(tmp_path / "page.pth")
    other: dict[str, Tensor] = {"conv.weight": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"not the released weights .*A file can only be the authors'"):
        load_model(saved(tmp_path / "other.pth", other))
    save_checkpoint(tmp_path / "checkpoint", tiny_run, streets_store)
    with pytest.raises(CheckpointError, match=r"model\.pt is a file of a checkpoint: pass its folder, .*/checkpoint"):
        load_model(tmp_path / "checkpoint" / "model.pt")
