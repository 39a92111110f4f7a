"""The gallery shows what the findings name and the oddest of each kind, within its bound."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from gscnn.constants import IGNORE_INDEX
from gscnn_platform.data.formats.streets import CLASSES
from gscnn_platform.data.store.parts import SampleArrays
from gscnn_platform.inspection.checks import findings
from gscnn_platform.inspection.gallery import chosen, gallery, oddness_of, panels_of, side_by_side
from gscnn_platform.inspection.sources import Read, open_source
from gscnn_platform.inspection.survey import Survey, survey, unseen
from gscnn_platform.label_pictures import overlay
from tests.faulty_data import LEAKED, SHIFTED, write_faulty


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return survey(open_source(str(write_faulty(tmp_path_factory.mktemp("faulty") / "data"))))


def test_what_is_named_and_the_oddest_are_chosen_first(faulty: Survey) -> None:
    oddness = oddness_of(faulty)
    picked = chosen(faulty, findings(faulty), oddness, 8)
    names = [(faulty.samples[place].split, faulty.samples[place].name) for place in picked]
    assert {LEAKED, SHIFTED} == set(names[:2])
    assert len(set(picked)) == len(picked) == 8
    for key in ("rare", "void", "edges", "unseen"):
        assert max(range(len(oddness)), key=lambda place, key=key: oddness[place][key]) in picked
    assert sorted(chosen(faulty, findings(faulty), oddness, 100)) == list(range(len(faulty.samples)))
    assert chosen(faulty, findings(faulty), oddness, 0) == []


def test_rarity_is_the_sum_over_classes_of_one_by_their_images(faulty: Survey) -> None:
    counts = {
        train_id: sum(bool(sample.pixels[train_id]) for sample in faulty.samples) for train_id in range(len(CLASSES))
    }
    expected = [
        math.fsum(1 / counts[train_id] for train_id in range(len(CLASSES)) if sample.pixels[train_id])
        for sample in faulty.samples
    ]
    np.testing.assert_allclose([each["rare"] for each in oddness_of(faulty)], expected)


def test_the_edge_label_that_the_prior_lacks_is_that_of_a_pixel_loop() -> None:
    rng = np.random.default_rng(0)
    gradient = np.where(rng.random((30, 40)) < 0.03, 255, 0).astype(np.uint8)
    boundary = (rng.random((30, 40)) < 0.2).astype(np.uint8)
    arrays = SampleArrays(np.zeros((30, 40, 3), np.uint8), np.zeros((30, 40), np.uint8), gradient, boundary)
    rows, columns = np.nonzero(boundary)
    missed = [
        not gradient[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3].any()
        for row, column in zip(rows, columns, strict=True)
    ]
    assert unseen(arrays) == pytest.approx(np.mean(missed))
    assert 0.1 < unseen(arrays) < 0.9


def test_panels_of_a_large_sample_are_reduced_and_keep_thin_edges() -> None:
    rng = np.random.default_rng(0)
    label = np.zeros((900, 1300), np.uint8)
    label[:, 600:] = 1
    label[:50] = IGNORE_INDEX
    thin = np.zeros((900, 1300), np.uint8)
    thin[:, 601] = 255
    image = rng.integers(0, 256, (900, 1300, 3), dtype=np.uint8)
    panels = panels_of(SampleArrays(image, label, thin, (thin > 0).astype(np.uint8)), [(255, 0, 0), (0, 255, 0)])
    assert [panel.shape[:2] for panel in panels] == [(300, 433)] * 4
    assert [(panel.max(axis=1) == 255).all() for panel in panels[2:]] == [True, True]
    small = image[:90, :130], label[:90, :130]
    shown = panels_of(SampleArrays(*small, thin[:90, :130], thin[:90, :130]), [(255, 0, 0), (0, 255, 0)])
    np.testing.assert_array_equal(shown[0], small[0])
    np.testing.assert_array_equal(shown[1], overlay(*small, [(255, 0, 0), (0, 255, 0)]))


def test_pictures_are_files_of_the_samples_with_what_was_found(faulty: Survey) -> None:
    pictures = gallery(faulty, findings(faulty), 6)
    assert len(pictures) == 6
    by_name = {(each.sample.split, each.sample.name): each for each in pictures}
    assert by_name[LEAKED].notes == ("the same picture as train/00007",)
    [read] = faulty.source.read(LEAKED[0], [by_name[LEAKED].sample.index])
    assert isinstance(read, Read)
    decoded = np.asarray(Image.open(io.BytesIO(by_name[LEAKED].panels[0])))
    assert np.abs(decoded.astype(int) - read.arrays.image).mean() < 8
    assert Image.open(io.BytesIO(side_by_side(pictures[0]))).size == (4 * 192, 128)
