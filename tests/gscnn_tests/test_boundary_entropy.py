"""The doubt at predicted boundaries, against a loop over pixels in float64."""

import math

import numpy as np
import pytest
import torch

from gscnn.edges import boundary_map
from gscnn.inference import boundary_entropy


def by_pixels(probabilities: np.ndarray, label: np.ndarray) -> float:
    classes, height, width = probabilities.shape
    found = []
    for row in range(height):
        for column in range(width):
            around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            near = [label[place] for place in around if 0 <= place[0] < height and 0 <= place[1] < width]
            if any(other != label[row, column] for other in near):
                shares = [float(share) for share in probabilities[:, row, column] if share > 0]
                found.append(-sum(share * math.log(share) for share in shares) / math.log(classes))
    return sum(found) / len(found) if found else math.nan


def random_probabilities(seed: int, classes: int) -> torch.Tensor:
    logits = torch.randn(3, classes, 9, 13, generator=torch.Generator().manual_seed(seed)) * 3
    # Smooth, so that not every pixel is at a boundary.
    return torch.softmax(torch.nn.functional.avg_pool2d(logits, 5, 1, 2) * 4, dim=1)


@pytest.mark.parametrize("classes", [2, 5, 19])
def test_it_is_the_mean_normalized_entropy_of_the_pixels_at_a_boundary(classes: int) -> None:
    probabilities = random_probabilities(classes, classes)
    label = probabilities.argmax(dim=1).to(torch.uint8)
    found = boundary_entropy(probabilities, label)
    assert found.dtype == torch.float64
    expected = [by_pixels(p.numpy().astype(np.float64), y.numpy()) for p, y in zip(probabilities, label, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert all(0 < value < 1 for value in expected)


def test_its_pixels_are_those_of_the_boundary_map_of_radius_one() -> None:
    """With one class certain outside of the map and all equally probable in it, the mean is 1."""
    label = random_probabilities(0, 4).argmax(dim=1).to(torch.uint8)
    probabilities = torch.nn.functional.one_hot(label.long(), 4).movedim(-1, 1).float()
    at = torch.from_numpy(np.stack([boundary_map(each.numpy(), 1) for each in label])).bool()
    assert 0 < at.float().mean() < 1
    assert boundary_entropy(probabilities, label).tolist() == [0, 0, 0]
    probabilities = torch.where(at[:, None], torch.tensor(0.25), probabilities)
    np.testing.assert_allclose(boundary_entropy(probabilities, label).numpy(), 1, rtol=1e-6)


def test_an_image_of_one_class_has_none() -> None:
    probabilities = random_probabilities(1, 3)
    label = probabilities.argmax(dim=1).to(torch.uint8)
    label[1] = 2
    found = boundary_entropy(probabilities, label)
    assert found.isnan().tolist() == [False, True, False]
    assert boundary_entropy(torch.ones(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)).isnan().all()
