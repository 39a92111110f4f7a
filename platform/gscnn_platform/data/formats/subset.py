"""Chooses the samples of a dataset that a store gets: by fold, by name and by share.

What is chosen depends on the samples' names and a seed alone: never on their order, on files or on the machine.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

import numpy as np

from gscnn_platform.data.formats.base import DatasetDescription, DatasetError, DatasetFormat, FileSample, Sample
from gscnn_platform.paths import AnyPath, as_path
from gscnn_platform.text_files import read_text, suggestion

LIST: Final = ".txt"
"""Extension of a file that lists names and patterns."""
SIGNS: Final = "*?["
"""Characters that make a name a pattern."""
POOLED: Final = ("train", "val")
"""Splits that folds divide anew."""

Samples = dict[str, list[Sample]]
"""Split -> its samples, sorted by name."""


@dataclass(frozen=True)
class RenamedSample:
    """A sample under another name."""

    name: str
    sample: Sample

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """As the sample itself."""
        return self.sample.read()

    def digest(self) -> str:
        """As the sample itself."""
        return self.sample.digest()


def chosen_samples(of: DatasetFormat, root: AnyPath | None) -> tuple[DatasetDescription, Samples]:
    """The description of the dataset below `root`, and the samples of each of its splits that the format's `folds`,
    then `only`, then `share` choose.

    Raises:
        DatasetError: the layout is wrong, a pattern matches no sample, or there are fewer samples than folds.
        TextError: a list of names cannot be read.
    """
    described = of.describe(root)
    samples = {split: of.samples(root, split) for split in described.splits}
    said = list(described.left_out)
    if of.folds is not None:
        samples = _folded(of, samples, of.folds)
        said.append(
            f"split val is fold {of.fold} of {of.folds} of train and val by {of.fold_by}, train is the rest "
            f"(subset_seed {of.subset_seed})"
        )
    chosen = dict(samples)
    if of.only or of.share < 1:
        _check_splits(of, samples)
        chosen |= _only(of, {split: samples[split] for split in of.subset_splits})
        chosen |= {split: _share(of, chosen[split]) for split in of.subset_splits}
        said += [
            f"split {split} is a subset, {len(chosen[split])} of its {len(samples[split])} samples"
            for split in of.subset_splits
        ]
    return replace(described, splits=tuple(chosen), left_out=tuple(said)), chosen


def source_of(sample: Sample) -> AnyPath | str:
    """The sample's label file for messages, or its name if it has none."""
    while isinstance(sample, RenamedSample):
        sample = sample.sample
    return sample.label if isinstance(sample, FileSample) else sample.name


def share_of(names: Sequence[str], share: float, seed: int) -> set[str]:
    """`share` of the names, rounded and at least one.

    A smaller share is a subset of a larger one. Names that are added displace as many of those chosen before as they
    are chosen themselves, less the growth of the share.
    """
    count = max(1, round(share * len(names)))
    return set(sorted(names, key=lambda name: _draw(name, seed))[:count])


def fold_numbers(groups: Sequence[str], folds: int, seed: int) -> list[int]:
    """The fold, from 0 to `folds` - 1, of each sample, given the group of each; a group lies in one fold.

    Folds are as equal in size as the groups allow: with one sample a group, they differ by one at most.
    """
    sizes = dict.fromkeys(groups, 0)
    for group in groups:
        sizes[group] += 1
    filled, fold_of = [0] * folds, dict[str, int]()
    for group in sorted(sizes, key=lambda group: (-sizes[group], _draw(group, seed))):
        fold_of[group] = filled.index(min(filled))
        filled[fold_of[group]] += sizes[group]
    return [fold_of[group] for group in groups]


def matching(names: Collection[str], patterns: Sequence[str]) -> tuple[set[str], set[str]]:
    """The names that are listed in `patterns` or match one, and the patterns that match; `*` stands for any text."""
    there = set(names)
    found = there & set(patterns)
    used = set(found)
    for pattern in patterns:
        # Names are looked up: comparing each line of a list with 10,000 names would take minutes.
        if pattern not in there and any(sign in pattern for sign in SIGNS):
            matched = {name for name in there if fnmatchcase(name, pattern)}
            found |= matched
            used |= {pattern} if matched else set()
    return found, used


def _draw(name: str, seed: int) -> bytes:
    """A random number as bytes, always the same for a name and a seed."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


def _folded(of: DatasetFormat, samples: Samples, folds: int) -> Samples:
    """The samples with train and val divided anew; their names begin with the split that they come from, because a
    name is unique only within its split."""
    pool = [RenamedSample(f"{split}/{each.name}", each) for split in POOLED for each in samples.get(split, [])]
    by_folder = of.fold_by == "folder"
    groups = [each.sample.name.rpartition("/")[0] if by_folder else each.name for each in pool]
    if len(set(groups)) < folds:
        way_out = "use --format.fold-by sample, or fewer folds" if by_folder else "use fewer folds"
        raise DatasetError(
            f"format.folds: {folds} folds, but train and val have {len(set(groups))} {of.fold_by}s, and every fold "
            f"needs one: {way_out}"
        )
    fold_of = dict(zip((each.name for each in pool), fold_numbers(groups, folds, of.subset_seed), strict=True))
    pool.sort(key=lambda each: each.name)
    train: list[Sample] = [each for each in pool if fold_of[each.name] != of.fold]
    val: list[Sample] = [each for each in pool if fold_of[each.name] == of.fold]
    return {"train": train, "val": val} | {split: samples[split] for split in samples if split not in POOLED}


def _check_splits(of: DatasetFormat, samples: Samples) -> None:
    for split in of.subset_splits:
        if split not in samples:
            raise DatasetError(
                f"format.subset_splits: {split!r} is not a split; the splits are {', '.join(samples)}"
                f"{suggestion(split, samples)}"
            )


def _only(of: DatasetFormat, samples: Samples) -> Samples:
    """The samples that `only` names. Raises DatasetError for what it names and is not there."""
    if not of.only:
        return samples
    patterns = _patterns(of.only)
    kept, used = dict(samples), set[str]()
    where = " and ".join(samples)
    for split, there in samples.items():
        found, matched = matching([each.name for each in there], patterns)
        kept[split] = [each for each in there if each.name in found]
        used |= matched
    names = [each.name for there in samples.values() for each in there]
    for pattern in patterns:
        if pattern not in used:
            kind = "matches no sample" if any(sign in pattern for sign in SIGNS) else "is not a sample"
            raise DatasetError(
                f"format.only: {pattern!r} {kind} of {where}, whose names are such as {names[0]!r}"
                f"{suggestion(pattern, names)}"
            )
    empty = next((split for split in kept if not kept[split]), None)
    if empty is not None:
        raise DatasetError(
            f"format.only: {' '.join(of.only)} leaves no sample of {empty}; name some, or remove {empty} from "
            "--format.subset-splits"
        )
    return kept


def _patterns(only: Sequence[str]) -> list[str]:
    """Each value of `only`, or the lines of the file that it names. Raises TextError."""
    texts = [read_text(as_path(value)) if value.lower().endswith(LIST) else value for value in only]
    return [line.strip() for text in texts for line in text.split("\n") if line.strip()]


def _share(of: DatasetFormat, samples: list[Sample]) -> list[Sample]:
    chosen = share_of([each.name for each in samples], of.share, of.subset_seed)
    return [each for each in samples if each.name in chosen]
