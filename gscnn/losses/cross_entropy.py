"""Cross-entropy of the segmentation, plain, with weights of the classes or by how rare a class is in its image."""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn.functional import cross_entropy

from gscnn.constants import IGNORE_INDEX
from gscnn.losses.terms import Counts, Term, divided, without_void


def pixel_cross_entropy(
    seg_logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    ignore_index: int = IGNORE_INDEX,
    class_weights: Float[Tensor, " K"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, "B H W"]:
    """Cross-entropy of each pixel, 0 on void; in float32, or in float64 if the logits are.

    With `label_smoothing` s, the pixel's target is (1 - s) on its class plus s / K on every class (Szegedy et al.,
    arXiv:1512.00567). With `class_weights`, each class's part of the sum is multiplied by its weight, as in PyTorch.
    """
    logits = without_void(seg_logits, target != ignore_index)
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    return cross_entropy(
        logits,
        target.long(),
        weights,
        ignore_index=ignore_index,
        reduction="none",
        label_smoothing=label_smoothing,
    )


def image_class_weights(
    target: Integer[Tensor, "B H W"], num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Float[Tensor, "B H W"]:
    """Weight of each pixel by how rare its class is in its image: 1 + (1 - share), 0 on void.

    `share` is the class's part of the image's non-void pixels, so weights lie between 1 and 2. (A class that is absent
    from an image would weigh 1 there, but no pixel uses it.) Source: the released code's image-weighted cross-entropy.
    """
    void = target == ignore_index
    places = target.long().masked_fill(void, num_classes).flatten(1)
    pixels = torch.zeros(len(target), num_classes + 1, dtype=torch.long, device=target.device)
    pixels.scatter_add_(1, places, torch.ones_like(places))
    weights = 2 - pixels / (~void).sum((1, 2)).clamp(min=1).unsqueeze(1)
    weights[:, num_classes] = 0
    return weights.gather(1, places).view(target.shape)


def mean_counts(mask: Bool[Tensor, "B H W"], by_image: bool = False) -> Counts:
    """The divisor of `mean_term`: pixels of the mask, or images that have any."""
    return (mask.flatten(1).any(dim=1).sum() if by_image else mask.sum(),)


def mean_term(
    pixel_loss: Float[Tensor, "B H W"], mask: Bool[Tensor, "B H W"], weights: Float[Tensor, "B H W"] | None = None
) -> Term:
    """Mean of `pixel_loss` over `mask`; 0, with zero gradient, if the mask is empty.

    With `weights`, which are 1 or more on the mask, returns the mean of the images' weighted means, over the images
    that have pixels in the mask. (The released code sums over the images of a GPU, which has only one, and averages
    over GPUs.)
    """
    if weights is None:
        total = pixel_loss.where(mask, 0).sum()
    else:
        weights = weights.to(pixel_loss.dtype).where(mask, 0)
        of_image = (pixel_loss * weights).where(mask, 0).sum((1, 2))
        total = (of_image / weights.sum((1, 2)).clamp(min=1)).sum()
    return Term(mean_counts(mask, weights is not None), lambda counts: divided(total, *counts))


def class_counts(target: Integer[Tensor, "B H W"], mask: Bool[Tensor, "B H W"], num_classes: int) -> Counts:
    """The divisor of `class_mean_term`: the mask's pixels of each class, [K]."""
    pixels = torch.zeros(num_classes, dtype=torch.long, device=target.device)
    return (pixels.scatter_add_(0, target.long().where(mask, 0).flatten(), mask.flatten().long()),)


def class_mean_term(
    pixel_loss: Float[Tensor, "B H W"],
    target: Integer[Tensor, "B H W"],
    mask: Bool[Tensor, "B H W"],
    class_weights: Float[Tensor, " K"],
) -> Term:
    """Sum of `pixel_loss`, which has the class weights already, over the sum of the weights; both over `mask`.

    This is PyTorch's weighted mean; 0, with zero gradient, if the mask is empty.
    """
    total = pixel_loss.where(mask, 0).sum()

    def value(counts: Counts) -> Float[Tensor, ""]:
        mass = (counts[0] * class_weights.to(total.dtype)).sum()
        return total / mass.where(mass > 0, 1)

    return Term(class_counts(target, mask, len(class_weights)), value)
