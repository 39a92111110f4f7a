"""Chooses the oddest samples of each kind and draws each: image, label over it, edge prior and edge label."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import UInt8

from gscnn_platform import machine
from gscnn_platform.data.store.manifest import Skipped
from gscnn_platform.data.store.parts import SampleArrays
from gscnn_platform.inspection.checks import Finding
from gscnn_platform.inspection.survey import Measured, Survey
from gscnn_platform.label_pictures import overlay

MOST_SIDE: Final = 640
"""Pixels of a picture's longer side, above which it is reduced."""
QUALITY: Final = 75
"""Of the WebP files: a sample of 480x360 takes 90 KB."""
PANELS: Final = ("image", "label over the image", "edge prior", "edge label")


@dataclass(frozen=True)
class Picture:
    """A sample of the gallery."""

    sample: Measured
    oddness: Mapping[str, float]
    """Key of ODDNESS -> value."""
    notes: tuple[str, ...]
    """What the findings say of it."""
    panels: tuple[bytes, ...]
    """WebP files, in the order of PANELS."""


@dataclass(frozen=True)
class Oddness:
    """An order of the gallery."""

    key: str
    title: str
    shown: Callable[[float], str]
    """How a sample's value is written."""


ODDNESS: Final = (
    Oddness("rare", "rarest classes", lambda value: f"rarity {value:.2f}"),
    Oddness("void", "most void", lambda value: f"void {value:.1%}"),
    Oddness("edges", "most edges", lambda value: f"edges {value:.1%}"),
    Oddness("unseen", "edge label least in the prior", lambda value: f"{value:.0%} of the edge label not in the prior"),
)


def oddness_of(survey: Survey) -> list[dict[str, float]]:
    """For each sample its values of ODDNESS, of which larger is odder.

    `rare` is the sum over the sample's classes of 1 / (number of images with the class); the others are shares.
    """
    images = sum((survey.images_with(split) for split in survey.splits), np.zeros(len(survey.source.classes), np.int64))
    weights = np.divide(1, images, out=np.zeros(len(images)), where=images > 0)
    return [
        {
            "rare": float(weights[sample.pixels > 0].sum()),
            "void": sample.void,
            "edges": sample.edges,
            "unseen": 0.0 if math.isnan(sample.unseen) else sample.unseen,
        }
        for sample in survey.samples
    ]


def chosen(survey: Survey, found: Sequence[Finding], oddness: Sequence[Mapping[str, float]], most: int) -> list[int]:
    """Indices of the samples to show: half of them at most for what the findings name, in turn for each finding and
    split; then in turn the oddest by each order, and samples spread evenly over the splits."""
    places = {(sample.split, sample.name): place for place, sample in enumerate(survey.samples)}
    named = [
        [places[each.split, each.name] for each in finding.samples if (each.split, each.name) in places]
        for finding in found
    ]
    by_order = [sorted(range(len(oddness)), key=lambda place, key=order.key: -oddness[place][key]) for order in ODDNESS]
    of_splits = [[places[each.split, each.name] for each in survey.of(split)] for split in survey.splits]
    evenly = [group[:: max(1, len(group) * len(of_splits) * 6 // max(1, most))] for group in of_splits]
    picked = dict.fromkeys(list(_in_turn(named))[: most // 2])
    for place in _in_turn([*by_order, *evenly]):
        if len(picked) >= most:
            break
        picked[place] = None
    return list(picked)[:most]


def _in_turn(groups: Sequence[Sequence[int]]) -> Iterator[int]:
    """The first of each group, then the second of each, and so on; each value once."""
    seen: set[int] = set()
    for place in range(max(map(len, groups), default=0)):
        for group in groups:
            if place < len(group) and group[place] not in seen:
                seen.add(group[place])
                yield group[place]


def gallery(survey: Survey, found: Sequence[Finding], most: int) -> list[Picture]:
    """The pictures of up to `most` samples, read again.

    Raises:
        StoreError: a sample of the store cannot be read.
    """
    oddness = oddness_of(survey)
    notes: dict[tuple[str, str], list[str]] = {}
    for finding in found:
        for each in finding.samples:
            notes.setdefault((each.split, each.name), []).append(each.detail)

    def picture(place: int) -> Picture | None:
        sample = survey.samples[place]
        [read] = survey.source.read(sample.split, [sample.index])
        if isinstance(read, Skipped):  # It changed since it was measured.
            return None
        panels = tuple(map(_webp, panels_of(read.arrays, survey.source.colours)))
        return Picture(sample, oddness[place], tuple(notes.get((sample.split, sample.name), ())), panels)

    with ThreadPoolExecutor(max_workers=machine.cores()) as pool:
        pictures = pool.map(picture, chosen(survey, found, oddness, most))
        return [each for each in pictures if each is not None]


def panels_of(
    arrays: SampleArrays, colours: Sequence[tuple[int, int, int]]
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    """The pictures of one sample, in the order of PANELS, reduced to MOST_SIDE; thin edges are kept."""
    assert arrays.boundary is not None
    height, width = arrays.label.shape
    factor = max(1, -(-max(height, width) // MOST_SIDE))
    size = max(1, width // factor), max(1, height // factor)
    image = np.asarray(cv2.resize(arrays.image, size, interpolation=cv2.INTER_AREA), np.uint8)
    label = np.asarray(cv2.resize(arrays.label, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    largest = np.ones((factor, factor), np.uint8)
    prior, edge = (
        np.asarray(cv2.resize(cv2.dilate(edges, largest), size, interpolation=cv2.INTER_NEAREST), np.uint8)
        for edges in (arrays.gradient, arrays.boundary * np.uint8(255))
    )
    return image, overlay(image, label, colours), prior, edge


def _webp(picture: UInt8[np.ndarray, "..."]) -> bytes:
    stored = picture[..., ::-1] if picture.ndim == 3 else picture
    return cv2.imencode(".webp", np.ascontiguousarray(stored), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()


def side_by_side(picture: Picture) -> bytes:
    """The panels of a sample in one row, as a JPEG file."""
    panels = [cv2.imdecode(np.frombuffer(panel, np.uint8), cv2.IMREAD_COLOR) for panel in picture.panels]
    row = np.concatenate([np.asarray(panel, np.uint8) for panel in panels], axis=1)
    return cv2.imencode(".jpg", row)[1].tobytes()
