"""Renders a folder of predictions as a page that lies in it and links to its pictures and videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import numpy as np

from gscnn_platform.reporting.templates import fill

MOST_IMAGES: Final = 3000
"""Maximum number of images on the page, two thirds of them the most doubtful and one third the most certain; an entry
has 600 bytes, and its picture is loaded when it is scrolled to."""
MOST_POINTS: Final = 1000
"""Maximum number of points of a video's timeline."""
PRESENT: Final = 0.001
"""Share of an image's pixels from which a class counts as present."""


@dataclass(frozen=True)
class PageImage:
    """A predicted image. Pictures are paths below the page's folder."""

    name: str
    doubt: float | None
    """None without a boundary."""
    shares: Sequence[float]
    """Of each class."""
    overlay: str
    thumbnail: str


@dataclass(frozen=True)
class Still:
    """A frame of a video that the page shows."""

    number: int
    time: float
    """Seconds since the first frame."""
    picture: str


@dataclass(frozen=True)
class PageVideo:
    """A predicted video. Paths are below the page's folder."""

    name: str
    facts: str
    """Size, frame rate and what is worth knowing, in a line."""
    overlay: str
    seconds: float
    times: Sequence[float]
    """Of each frame, in seconds."""
    doubt: Sequence[float | None]
    broken: Sequence[int]
    peaks: Sequence[Still]
    """The most doubtful frames, the worst first."""
    certain: Sequence[Still]


@dataclass(frozen=True)
class PageClass:
    name: str
    colour: tuple[int, int, int]
    share: float
    """Of all predicted pixels."""


def render(
    title: str,
    facts: Mapping[str, str],
    classes: Sequence[PageClass],
    images: Sequence[PageImage],
    videos: Sequence[PageVideo],
) -> str:
    """The page. It works wherever its folder is copied to, with the files that it links to."""
    colours = ["rgb({}, {}, {})".format(*each.colour) for each in classes]
    shown = _shown(images)
    return fill(
        "prediction_page.html.jinja",
        title=title,
        facts=facts,
        classes=[
            {"name": each.name, "colour": colour, "share": each.share}
            for each, colour in zip(classes, colours, strict=True)
        ],
        images=[_image(image, [each.name for each in classes], colours) for image in shown],
        left_out=len(images) - len(shown),
        videos=[_video(video) for video in videos],
    )


def _shown(images: Sequence[PageImage]) -> list[PageImage]:
    """At most MOST_IMAGES images, sorted by name."""
    ordered = sorted(images, key=lambda image: -1 if image.doubt is None else image.doubt)
    if len(ordered) > MOST_IMAGES:
        ordered = [*ordered[: MOST_IMAGES // 3], *ordered[-(MOST_IMAGES - MOST_IMAGES // 3) :]]
    return sorted(ordered, key=lambda image: image.name)


def _image(image: PageImage, classes: Sequence[str], colours: Sequence[str]) -> dict[str, Any]:
    present = [place for place, share in enumerate(image.shares) if share >= PRESENT]
    by_share = sorted(present, key=lambda place: -image.shares[place])
    ends = np.cumsum([0, *image.shares]) * 100
    stops = [f"{colours[place]} {ends[place]:.1f}% {ends[place + 1]:.1f}%" for place in present]
    return {
        "name": image.name,
        "doubt": image.doubt,
        "class_ids": present,
        "bar": f"linear-gradient(to right, {', '.join(stops)})",
        "shares": ", ".join(f"{classes[place]} {image.shares[place]:.1%}" for place in by_share),
        "thumbnail": quote(image.thumbnail),
        "overlay": quote(image.overlay),
    }


def _video(video: PageVideo) -> dict[str, Any]:
    known = [value for value in video.doubt if value is not None]
    least, most = min(known, default=0.0), max(known, default=0.0)
    margin = max(0.02, 0.1 * (most - least))
    low, high = max(0.0, least - margin), most + margin

    def x(number: int) -> float:
        return round(1000 * video.times[number] / video.seconds, 1)

    def y(value: float) -> float:
        return round(100 * (high - value) / (high - low), 1)

    def still(each: Still) -> dict[str, Any]:
        value = video.doubt[each.number]
        return {
            "number": each.number,
            "time": each.time,
            "at": _minutes(each.time),
            "doubt": value,
            "picture": quote(each.picture),
            "x": x(each.number) / 10,
            "y": y(value or 0.0),
        }

    return {
        "name": video.name,
        "facts": video.facts,
        "source": quote(video.overlay),
        "seconds": video.seconds,
        "length": _minutes(video.seconds),
        "low": low,
        "high": high,
        "broken": sorted({x(number) for number in video.broken}),
        "line": _line([(x(number), None if value is None else y(value)) for number, value in enumerate(video.doubt)]),
        "peaks": [still(each) for each in video.peaks],
        "certain": [still(each) for each in video.certain],
    }


def _line(points: Sequence[tuple[float, float | None]]) -> str:
    """SVG's path through x and y, with gaps at None; of many points, the highest of each group, so peaks stay."""
    group = -(-len(points) // MOST_POINTS)
    parts, pen = [], "M"
    for start in range(0, len(points), group):
        known = [(y, x) for x, y in points[start : start + group] if y is not None]
        if not known:
            pen = "M"
            continue
        y, x = min(known)  # SVG's y points down.
        parts.append(f"{pen}{x:g} {y:g}")
        pen = "L"
    return " ".join(parts)


def _minutes(seconds: float) -> str:
    """`1:05.3` for 65.3 seconds."""
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"
