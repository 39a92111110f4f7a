from itertools import groupby

import numpy as np
import pytest

from gscnn_platform.data.formats.rle import run_lengths
from gscnn_platform.data.formats.shapes import ShapeError, drawn


def counts_of(mask: np.ndarray) -> list[int]:
    """Runs down the columns, that of the outside first."""
    pixels = [bool(mask[row, column]) for column in range(mask.shape[1]) for row in range(mask.shape[0])]
    runs = [(value, len(list(run))) for value, run in groupby(pixels)]
    return [0, *(count for _, count in runs)] if runs[0][0] else [count for _, count in runs]


def text_of(counts: list[int]) -> str:
    """Differences to the run two before, from the fourth run on, in base 32 by two's complement."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        digits = 1
        while not -(32**digits) // 2 <= value < 32**digits // 2:
            digits += 1
        value %= 32**digits
        for digit in range(digits):
            group = value // 32**digit % 32
            text += chr(48 + group + (32 if digit < digits - 1 else 0))
    return text


def mask_of(segmentation: dict[str, object], size: tuple[int, int]) -> np.ndarray:
    return drawn([(1, run_lengths(segmentation).region(*size))], 0, *size) == 1


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (40, 60), (300, 400)])
@pytest.mark.parametrize("kind", ["noise", "blocks", "full", "empty", "corner"])
def test_masks_are_read_from_numbers_and_from_text(size: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(0)
    mask = {
        "noise": rng.random(size) > 0.5,
        "blocks": np.kron(rng.random((size[0] // 9 + 1, size[1] // 9 + 1)) > 0.5, np.ones((9, 9)))[
            : size[0], : size[1]
        ],
        "full": np.ones(size),
        "empty": np.zeros(size),
        "corner": np.pad(np.ones((1, 1)), ((size[0] - 1, 0), (0, size[1] - 1))),
    }[kind].astype(bool)
    counts = counts_of(mask)
    np.testing.assert_array_equal(mask_of({"size": list(size), "counts": counts}, size), mask)
    np.testing.assert_array_equal(mask_of({"size": list(size), "counts": text_of(counts)}, size), mask)


def test_a_known_text_is_read() -> None:
    # 9 pixels in 3 columns: 2 outside, 3 inside, 4 outside; each fits into one character, 48 plus the number.
    expected = [[False, True, False], [False, True, False], [True, False, False]]
    np.testing.assert_array_equal(mask_of({"size": [3, 3], "counts": "234"}, (3, 3)), expected)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"counts": [4]}, r"the size of its mask is None; \[height, width\]"),
        ({"size": [2, 2.5], "counts": [4]}, "the size of its mask"),
        ({"size": [2, 2]}, "the counts of its mask are neither whole numbers nor their text"),
        ({"size": [2, 2], "counts": [2, -1, 3]}, "neither whole numbers"),
        ({"size": [2, 2], "counts": [3]}, "its mask has 3 pixels; 2x2 are 4"),
        ({"size": [2, 2], "counts": "2 2"}, "contain ' ', which no mask has"),
        ({"size": [2, 2], "counts": "2R"}, "end within a number: it is truncated"),
        ({"size": [2, 2], "counts": "0000N"}, "neither whole numbers"),
    ],
)
def test_a_wrong_mask_is_rejected_with_the_reason(segmentation: dict[str, object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        run_lengths(segmentation)


def test_a_mask_of_another_size_is_rejected_with_both_sizes() -> None:
    with pytest.raises(ShapeError, match=r"its mask is 3x2 but the image is 2x3 \(width x height\)"):
        run_lengths({"size": [2, 3], "counts": [6]}).region(3, 2)
