"""What is wrong with a dataset: one function per check, each of which says what, where and what to do."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final, Literal

from gscnn_platform.data.store.notices import (
    TRAIN,
    class_notices,
    listed,
    split_notices,
    turned_notice,
    void_notices,
    without_pixels,
)
from gscnn_platform.inspection.likeness import SAME, pairs
from gscnn_platform.inspection.survey import Measured, Survey

RARE: Final = 0.001
"""Share of a split's labelled pixels below which a class is rare."""
UNEVEN: Final = 5.0
"""Ratio of a class's shares in two splits from which it is noted: CamVid's bicyclists have 0.30% of the pixels in its
training split and 2.26% in its validation split, all other classes differ by 3.4 at most."""
MUCH_VOID: Final = 0.3
"""Share of a split's pixels that are void from which it is a warning: 4.0% in CamVid's training split."""
MOSTLY_VOID: Final = 0.5
"""Share of a sample's pixels that are void from which it is listed."""
SCALE: Final = 1.5
"""Ratio of the median widths of two splits from which objects are of another size in each."""
SHOWN: Final = 3
"""Samples of a finding that the terminal lists."""
NUMBERS: Final = re.compile(r"\d+")

Level = Literal["error", "warning", "note"]
LEVELS: Final[tuple[Level, ...]] = ("error", "warning", "note")


@dataclass(frozen=True)
class Affected:
    """A sample that a finding names."""

    split: str
    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.split}/{self.name}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True)
class Finding:
    level: Level
    what: str
    advice: str = ""
    samples: tuple[Affected, ...] = ()

    @property
    def listed(self) -> tuple[Affected, ...]:
        """The samples, unless there is only one that `what` says all of."""
        said = len(self.samples) == 1 and self.samples[0].detail in self.what
        return () if said else self.samples

    def __str__(self) -> str:
        """For the terminal: what, up to SHOWN samples, and what to do."""
        named = [f"    {each}" for each in self.listed[:SHOWN]]
        more = [f"    and {len(self.listed) - SHOWN} more"] if len(self.listed) > SHOWN else []
        advice = [f"    -> {self.advice}"] if self.advice else []
        return "\n".join([f"{self.level}: {self.what}", *named, *more, *advice])


Check = Callable[[Survey], Iterator[Finding]]


def unusable_samples(survey: Survey) -> Iterator[Finding]:
    """Samples that cannot be read, grouped by the reason: precompute refuses them, too."""
    groups: defaultdict[str, list[Affected]] = defaultdict(list)
    for bad in survey.bad:
        named = re.sub(r"\S*/\S*", "", bad.reason)  # Without the paths, which differ.
        groups[NUMBERS.sub("", named)].append(Affected(bad.split, bad.name, bad.reason))
    for group in sorted(groups.values(), key=len, reverse=True):
        count = f"{len(group)} samples cannot be used" if len(group) > 1 else "1 sample cannot be used"
        yield Finding(
            "error",
            f"{count}: {group[0].detail}",
            "fix these files, or build the store with --on-bad-sample skip",
            tuple(group),
        )


def shifted_labels(survey: Survey) -> Iterator[Finding]:
    """Labels whose outlines fit the image's edges better at another place."""
    for split in survey.splits:
        samples = survey.of(split)
        moved = tuple(Affected(split, each.name, str(each.shift)) for each in samples if each.shift is not None)
        common = survey.common_shifts.get(split)
        if common is not None:
            yield Finding(
                "warning",
                f"the labels of split {split} lie {common} of their images' edges, on average",
                "export them again: an offset, or a crop or resize of only one of image and label, shifts them all",
                moved,
            )
        elif moved:
            yield Finding(
                "warning",
                f"{len(moved)} of {len(samples)} labels of split {split} seem{_s(moved)} shifted against the image",
                "look at them in the gallery, and export them again if their outlines lie beside the image's edges",
                moved,
            )


def shared_between_splits(survey: Survey) -> Iterator[Finding]:
    """Images of one split that are in another split too, the same or alike."""
    for one, other in combinations(survey.splits, 2):
        first, second = survey.of(one), survey.of(other)
        found = list(pairs([each.likeness for each in first], [each.likeness for each in second]))
        same, alike = (
            tuple(
                Affected(other, second[pair.second].name, f"{one}/{first[pair.first].name}")
                for pair in found
                if (pair.difference <= SAME) == is_same
            )
            for is_same in (True, False)
        )
        if same:
            yield Finding(
                "error",
                f"{_images(len(same), len(second))} of split {other} {'are' if len(same) > 1 else 'is'} in split {one} "
                "as well",
                "remove them from one of the two: scores on images that were trained on are too good",
                tuple(Affected(each.split, each.name, f"the same picture as {each.detail}") for each in same),
            )
        if alike:
            yield Finding(
                "note",
                f"{_images(len(alike), len(second))} of split {other} resemble{'' if len(alike) > 1 else 's'} one of "
                f"split {one}, as neighbouring frames of a video do",
                "put whole videos into one split, or scores are too good",
                tuple(Affected(each.split, each.name, f"like {each.detail}") for each in alike),
            )


def repeated_images(survey: Survey) -> Iterator[Finding]:
    """Images that occur twice in one split, pixel by pixel."""
    for split in survey.splits:
        first: dict[bytes, str] = {}
        repeated: list[Affected] = []
        for sample in survey.of(split):
            known = first.setdefault(sample.likeness.digest, sample.name)
            if known != sample.name:
                repeated.append(Affected(split, sample.name, f"the same pixels as {known}"))
        if repeated:
            yield Finding(
                "note",
                f"{_images(len(repeated), len(survey.of(split)))} of split {split} repeat{_s(repeated)} another one",
                "remove them: they count twice",
                tuple(repeated),
            )


def lacking_classes(survey: Survey) -> Iterator[Finding]:
    """Classes that a split lacks."""
    for text in class_notices(survey.manifest):
        yield Finding("warning", text)
    for split in survey.splits:
        names = without_pixels(survey.manifest, split)
        if split != TRAIN and names and survey.of(split):
            yield Finding(
                "warning",
                f"no label of split {split} has class {listed(names)}: no score on {split} tells how well "
                f"{'it is' if len(names) == 1 else 'they are'} learned",
                f"move samples with {'it' if len(names) == 1 else 'them'} to {split}, or check the raw values that map "
                f"to {'it' if len(names) == 1 else 'them'}",
            )


def rare_classes(survey: Survey) -> Iterator[Finding]:
    """Classes with hardly any pixel of the training split."""
    if TRAIN not in survey.manifest.splits:
        return
    shares = zip(survey.source.classes, class_shares(survey, TRAIN), strict=True)
    rare = [f"{name} ({share:.3%})" for name, share in shares if 0 < share < RARE]
    if rare:
        yield Finding(
            "note",
            f"less than {RARE:.1%} of the labelled pixels of split {TRAIN} {'are' if len(rare) > 1 else 'is'} "
            f"{listed(rare)}",
            "draw crops by class: --data.class-uniform 0.5",
        )


def uneven_classes(survey: Survey) -> Iterator[Finding]:
    """Classes that are far more frequent in one split than in the training split."""
    if TRAIN not in survey.manifest.splits:
        return
    shares = {split: class_shares(survey, split) for split in survey.splits}
    for split in survey.splits:
        both = zip(survey.source.classes, shares[TRAIN], shares[split], strict=True)
        uneven = [
            f"{name} ({in_train:.2%} and {here:.2%})"
            for name, in_train, here in both
            if in_train and here and max(in_train / here, here / in_train) >= UNEVEN
        ]
        if uneven:
            yield Finding("note", f"splits {TRAIN} and {split} have unlike shares of the pixels of {listed(uneven)}")


def much_void(survey: Survey) -> Iterator[Finding]:
    """Splits and samples with much void."""
    for split in survey.splits:
        counted = survey.manifest.splits[split]
        share = counted.void_pixels / max(1, sum(counted.pixels) + counted.void_pixels)
        if share >= MUCH_VOID:
            yield Finding(
                "warning",
                f"{share:.0%} of the pixels of split {split} are void, from which nothing is learned",
                "check the raw values that map to void",
            )
        elif mostly := [each for each in survey.of(split) if MOSTLY_VOID <= each.void < 1]:
            yield Finding(
                "note",
                f"{_images(len(mostly), len(survey.of(split)))} of split {split} {'are' if len(mostly) > 1 else 'is'} "
                "mostly void",
                samples=tuple(Affected(split, each.name, f"{each.void:.0%} void") for each in mostly),
            )
        for text in void_notices(survey.manifest, [split]):
            entirely = tuple(Affected(split, each.name, "all void") for each in survey.of(split) if each.void == 1)
            yield Finding("warning", text, "label them, or remove them", entirely)


def flat_images(survey: Survey) -> Iterator[Finding]:
    """Images of one colour."""
    for split in survey.splits:
        samples = survey.of(split)
        flat = tuple(Affected(split, each.name, "one colour") for each in samples if each.is_flat)
        if flat:
            yield Finding(
                "warning",
                f"{_images(len(flat), len(samples))} of split {split} show{_s(flat)} one colour and nothing else",
                "remove them, or export them again",
                flat,
            )


def labels_without_boundary(survey: Survey) -> Iterator[Finding]:
    """Labels of a single class."""
    for split in survey.splits:
        samples = survey.of(split)
        single = [each for each in samples if not each.edges and each.void < 1]
        if single:
            every = len(single) == len(samples)
            yield Finding(
                "warning" if every else "note",
                f"{len(single)} of {len(samples)} labels of split {split} {'have' if len(single) > 1 else 'has'} no "
                "boundary, because all labelled pixels are of one class",
                "check the raw values: the edge branch learns nothing from them"
                if every
                else "nothing to do if these images show one class only",
                tuple(Affected(split, each.name, _only_class(survey, each)) for each in single),
            )


def sizes(survey: Survey) -> Iterator[Finding]:
    """Images of another size than the training split's."""
    widths = {split: median([each.width for each in survey.of(split)]) for split in survey.splits if survey.of(split)}
    for split, width in widths.items():
        ratio = max(width, widths.get(TRAIN, width)) / min(width, widths.get(TRAIN, width))
        if ratio >= SCALE:
            yield Finding(
                "warning",
                f"images of split {split} are {width:g} pixels wide (median), those of {TRAIN} {widths[TRAIN]:g}: "
                "objects are of another size in each",
                "bring both to one size, or choose --augmentation.scale so that it covers the ratio",
            )
    counts = Counter(each.size for each in survey.samples)
    if len(counts) > 1:
        of_sizes = [f"{size} ({count})" for size, count in counts.most_common()]
        yield Finding("note", f"images have {len(counts)} sizes: {listed(of_sizes)}")


def turned_images(survey: Survey) -> Iterator[Finding]:
    """Images that EXIF rotates."""
    turned = tuple(Affected(each.split, each.name, "rotated by EXIF") for each in survey.samples if each.turned)
    for text in turned_notice(len(turned)):
        yield Finding("note", text, "look at them in the gallery", turned)


def splits(survey: Survey) -> Iterator[Finding]:
    """Splits that are missing, and what is in none."""
    for text in (*survey.source.left_out, *split_notices(survey.manifest)):
        yield Finding("note", text)
    if survey.unread:
        yield Finding("note", f"{survey.unread} samples were not read, because of --max-samples")


CHECKS: Final[tuple[Check, ...]] = (
    unusable_samples,
    shared_between_splits,
    shifted_labels,
    lacking_classes,
    much_void,
    flat_images,
    sizes,
    labels_without_boundary,
    rare_classes,
    uneven_classes,
    repeated_images,
    turned_images,
    splits,
)


def findings(survey: Survey) -> list[Finding]:
    """What all checks find: errors first, then warnings, then notes."""
    found = [finding for check in CHECKS for finding in check(survey)]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def class_shares(survey: Survey, split: str) -> list[float]:
    """Each class's share of the split's labelled pixels."""
    pixels = survey.manifest.splits[split].pixels
    return [count / max(1, sum(pixels)) for count in pixels]


def _images(count: int, of: int) -> str:
    return f"{count} of {of} images"


def _s(found: Sequence[object]) -> str:
    return "" if len(found) > 1 else "s"


def _only_class(survey: Survey, sample: Measured) -> str:
    return f"only {survey.source.classes[int(sample.pixels.argmax())]}"
