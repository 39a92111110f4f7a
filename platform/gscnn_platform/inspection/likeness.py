"""Pictures that occur twice: a perceptual hash finds the candidates, the grey values of a small picture decide."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from jaxtyping import UInt8

SIDE: Final = 32
"""Rows and columns of the small picture."""
MOST_BITS: Final = 12
"""Bits of 64 in which the hashes of two candidates may differ. CamVid's frames, saved again as JPEG of quality 20 to 90
or at a quarter to twice their size, differ in up to 12."""
SAME: Final = 1.5
"""Mean difference of the small pictures, of 255, up to which they are the same picture: CamVid's frames saved again
reach 1.41, and the most similar of two different frames of it 1.82."""
ALIKE: Final = 10.0
"""As SAME, up to which two pictures are alike, as neighbouring frames of a video: CamVid's validation frames, which
are 1/15 s apart, reach 9.42; the most similar pair across its splits 18.7."""
CHUNK: Final = 1 << 24
"""Pairs that are compared at once, in 128 MB."""


@dataclass(frozen=True)
class Likeness:
    """What an image is recognized by."""

    digest: bytes
    """Of the exact pixels and their size."""
    bits: int
    """64 bits: whether each cell of a 9x8 picture is brighter than its left neighbour (dHash)."""
    small: UInt8[np.ndarray, "32 32"]
    """Grey values."""


@dataclass(frozen=True)
class Pair:
    """Two similar images, by their places in the two sequences."""

    first: int
    second: int
    difference: float
    """Mean absolute difference of the small pictures, 0..255."""


def likeness(image: UInt8[np.ndarray, "H W 3"]) -> Likeness:
    """The image's digest, hash and small picture."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    bits = int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")
    digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()
    return Likeness(digest, bits, np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8))


def pairs(first: Sequence[Likeness], second: Sequence[Likeness]) -> Iterator[Pair]:
    """For each image of `second` the most similar of `first`, if their difference is at most ALIKE."""
    if not first or not second:
        return
    hashes = np.array([one.bits for one in first], np.uint64)
    small = np.stack([one.small for one in first]).astype(np.int16).reshape(len(first), -1)
    by_digest = {one.digest: place for place, one in reversed(list(enumerate(first)))}
    step = max(1, CHUNK // len(first))
    for start in range(0, len(second), step):
        others = second[start : start + step]
        distances = np.bitwise_count(hashes[None] ^ np.array([one.bits for one in others], np.uint64)[:, None])
        for place, (other, of_one) in enumerate(zip(others, distances, strict=True), start=start):
            if other.digest in by_digest:
                yield Pair(by_digest[other.digest], place, 0.0)
                continue
            candidates = np.flatnonzero(of_one <= MOST_BITS)
            if not len(candidates):
                continue
            differences = np.abs(small[candidates] - other.small.astype(np.int16).ravel()).mean(axis=1)
            best = int(np.argmin(differences))
            if differences[best] <= ALIKE:
                yield Pair(int(candidates[best]), place, float(differences[best]))
