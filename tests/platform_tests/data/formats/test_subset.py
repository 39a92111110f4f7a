from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gscnn_platform.data.formats import DatasetError, DatasetFormat
from gscnn_platform.data.formats.camvid import CamVid
from gscnn_platform.data.formats.cityscapes import Cityscapes
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.data.formats.subset import chosen_samples, fold_numbers, share_of
from tests.layouts import write_camvid, write_cityscapes

MANY = Streets(train=40, val=11, test=3)


def names(of: DatasetFormat, root: Path | None = None) -> dict[str, list[str]]:
    return {split: [sample.name for sample in samples] for split, samples in chosen_samples(of, root)[1].items()}


def streets(**settings: Any) -> Streets:
    return Streets.model_validate(MANY.model_dump() | settings)


def test_without_settings_all_samples_are_chosen_and_nothing_is_said(tmp_path: Path) -> None:
    root = write_camvid(tmp_path, splits=("train", "val", "test"))
    described, samples = chosen_samples(CamVid(), root)
    assert described == CamVid().describe(root)
    assert samples == {split: CamVid().samples(root, split) for split in ("train", "val", "test")}


@pytest.mark.parametrize(("share", "count"), [(0.1, 4), (0.34, 14), (0.001, 1), (1.0, 40)])
def test_a_share_of_train_is_rounded_at_least_one_and_in_order_and_val_stays_whole(share: float, count: int) -> None:
    found = names(streets(share=share))
    assert len(found["train"]) == len(set(found["train"])) == count
    assert found["train"] == sorted(found["train"])
    assert set(found["train"]) <= set(names(MANY)["train"])
    assert (len(found["val"]), len(found["test"])) == (11, 3)


def test_a_share_depends_on_names_and_seed_alone() -> None:
    everything = [f"frame {index}" for index in range(200)]
    chosen = share_of(everything, 0.3, seed=1)
    assert share_of(everything[::-1], 0.3, seed=1) == chosen
    assert share_of(everything, 0.3, seed=2) != chosen
    # Pinned: another choice would silently give other results for the same command.
    assert sorted(share_of([f"{index:05d}" for index in range(10)], 0.3, seed=0)) == ["00003", "00005", "00006"]


def test_a_smaller_share_is_a_subset_of_a_larger_one_and_added_samples_change_few() -> None:
    everything = [f"frame {index}" for index in range(200)]
    small, large = share_of(everything, 0.1, seed=0), share_of(everything, 0.5, seed=0)
    assert small < large
    more = share_of([*everything, "new a", "new b"], 0.5, seed=0)
    assert len(more) == 101
    assert len(large - more) <= 1


def test_a_share_draws_every_sample_equally_often() -> None:
    everything = [f"frame {index}" for index in range(20)]
    counts = dict.fromkeys(everything, 0)
    for seed in range(2000):
        for name in share_of(everything, 0.25, seed):
            counts[name] += 1
    # Binomial(2000, 0.25): mean 500, standard deviation 19.4.
    assert all(abs(count - 500) < 5 * 19.4 for count in counts.values())


def test_the_subset_is_named_with_its_counts_and_other_splits_can_be_reduced_too() -> None:
    described, samples = chosen_samples(streets(share=0.5, subset_splits=("train", "val")), None)
    assert (len(samples["train"]), len(samples["val"]), len(samples["test"])) == (20, 6, 3)
    assert described.left_out == (
        "split train is a subset, 20 of its 40 samples",
        "split val is a subset, 6 of its 11 samples",
    )


def test_only_takes_names_and_patterns_and_lists_of_both(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path / "raw", cities=("aachen", "bremen", "cologne"))
    everything = names(Cityscapes(), root)
    found = names(Cityscapes(only=("aachen/*", "bremen/bremen_000001_000019")), root)
    assert found["train"] == ["aachen/aachen_000000_000019", "aachen/aachen_000001_000019", everything["train"][3]]
    assert found["val"] == everything["val"]
    listed = tmp_path / "frames.txt"
    listed.write_bytes(b"\xef\xbb\xbfcologne/*\r\n\r\naachen/aachen_000000_000019\r\n")
    found = names(Cityscapes(only=(str(listed),), subset_splits=("train", "val")), root)
    assert found["train"] == found["val"] == [everything["train"][0], *everything["train"][4:]]


def test_a_share_is_taken_of_what_only_names(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path, frames=10)
    found = names(Cityscapes(only=("bremen/*",), share=0.3), root)["train"]
    assert len(found) == 3
    assert all(name.startswith("bremen/") for name in found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"only": ("0000",)}, r"^format\.only: '0000' is not a sample of train, whose names are such as "
         r"'00000'; did you mean 000\d0\?"),
        ({"only": ("00001", "9*")}, r"^format\.only: '9\*' matches no sample of train"),
        ({"only": ("00020",), "subset_splits": ("train", "val")}, r"^format\.only: 00020 leaves no sample of val"),
        ({"share": 0.5, "subset_splits": ("vla",)}, r"^format\.subset_splits: 'vla' is not a split; the splits "
         r"are train, val, test; did you mean val\?"),
        ({"folds": 60, "fold": 0}, r"^format\.folds: 60 folds, but train and val have 51 samples.*use fewer folds"),
        ({"folds": 2, "fold": 0, "fold_by": "folder"}, r"2 folds, but train and val have 1 folders.*fold-by sample"),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        chosen_samples(streets(**settings), None)


def test_a_list_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"frames\.txt: the file is missing"):
        chosen_samples(streets(only=(str(tmp_path / "frames.txt"),)), None)


def test_every_sample_of_train_and_val_is_in_val_of_one_fold_and_test_stays() -> None:
    validated: list[str] = []
    everything = {f"{split}/{name}" for split in ("train", "val") for name in names(MANY)[split]}
    for fold in range(5):
        found = names(streets(folds=5, fold=fold))
        assert set(found) == {"train", "val", "test"}
        assert found["test"] == names(MANY)["test"]
        assert found["train"] == sorted(found["train"])
        assert set(found["train"]) | set(found["val"]) == everything
        assert not set(found["train"]) & set(found["val"])
        assert len(found["val"]) in (10, 11)
        validated += found["val"]
    assert sorted(validated) == sorted(everything)


def test_folds_depend_on_names_and_seed_alone() -> None:
    groups = [f"frame {index}" for index in range(50)]
    ahead = dict(zip(groups, fold_numbers(groups, 5, seed=0), strict=True))
    back = dict(zip(groups[::-1], fold_numbers(groups[::-1], 5, seed=0), strict=True))
    assert ahead == back
    assert fold_numbers(groups, 5, seed=1) != fold_numbers(groups, 5, seed=0)


def test_samples_of_a_fold_read_as_before_and_say_where_they_come_from() -> None:
    described, samples = chosen_samples(streets(folds=3, fold=2), None)
    before = {f"{split}/{each.name}": each for split in ("train", "val") for each in MANY.samples(None, split)}
    for each in samples["val"][:2]:
        assert each.digest() == before[each.name].digest()
        assert (each.read()[1] == before[each.name].read()[1]).all()
    assert described.left_out == (
        "split val is fold 2 of 3 of train and val by sample, train is the rest (subset_seed 0)",
    )


def test_folds_by_folder_keep_videos_whole_across_train_and_val(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path, cities=("a", "b", "c", "d"), frames=3)
    validated: list[str] = []
    for fold in range(4):
        found = names(Cityscapes(folds=4, fold=fold, fold_by="folder"), root)
        cities = {split: {name.split("/")[1] for name in of_split} for split, of_split in found.items()}
        assert not cities["train"] & cities["val"]
        assert len(found["val"]) == 6
        validated += sorted(cities["val"])
    assert sorted(validated) == ["a", "b", "c", "d"]


def test_folds_without_val_divide_train(tmp_path: Path) -> None:
    root = write_camvid(tmp_path, splits=("train",), frames=4)
    found = names(CamVid(folds=2, fold=1, share=0.5), root)
    assert (len(found["train"]), len(found["val"])) == (1, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0}, "greater than 0"),
        ({"share": 1.1}, "less than or equal to 1"),
        ({"folds": 1, "fold": 0}, "greater than or equal to 2"),
        ({"folds": 5}, "`folds` is 5: needs `fold`, the one to validate on: 0 to 4"),
        ({"fold": 0}, "`fold` is 0: needs `folds`"),
        ({"folds": 5, "fold": 5}, "`fold` is 5: must be less than `folds`, 5"),
        ({"subset_splits": ()}, "at least 1"),
    ],
)
def test_combinations_that_make_no_sense_are_rejected_without_reading_data(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        CamVid.model_validate(settings)
