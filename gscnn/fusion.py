"""Fusion of both streams by atrous spatial pyramid pooling (arXiv:1907.05740, section 3.2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPPConv, ASPPPooling

from gscnn.resize import resize


class FeatureFusion(nn.Module):
    """ASPP on the backbone's top, with the shape stream's feature as one more branch.

    Branches, in this order: 1x1, one dilated 3x3 per rate, pooled image, and the edge feature if there is one. A
    bias-free 1x1 convolution projects their concatenation to `channels`.

    Args:
        in_channels: channels of the backbone's top.
        rates: dilations of the 3x3 branches.
        channels: width of every branch and of the result.
        with_edge: False for DeepLabV3+, which has no shape stream.

    Raises:
        ValueError: in forward, for one image in training mode: the pooled branch has one value per channel, too few for
            batch statistics.
    """

    def __init__(self, in_channels: int, rates: tuple[int, ...], channels: int, with_edge: bool) -> None:
        super().__init__()
        self.aspp = nn.ModuleList(
            [
                _conv_bn_relu(in_channels, channels),
                *(ASPPConv(in_channels, channels, rate) for rate in rates),
                ASPPPooling(in_channels, channels),
            ]
        )
        self.edge_branch = _conv_bn_relu(1, channels) if with_edge else None
        branches = len(self.aspp) + (1 if with_edge else 0)
        self.project = nn.Conv2d(branches * channels, channels, kernel_size=1, bias=False)

    def forward(
        self, top: Float[Tensor, "B C h w"], edge_feature: Float[Tensor, "B 1 H W"] | None
    ) -> Float[Tensor, "B D h w"]:
        if self.training and top.shape[0] == 1 and not self._synchronized():
            raise ValueError(
                "one image in training mode: the pooled ASPP branch normalizes over the batch and needs at least 2 "
                "images per worker, or synchronized batch norm over several workers (--training.sync-bn)"
            )
        branches = [branch(top) for branch in self.aspp]
        if self.edge_branch is not None:
            assert edge_feature is not None
            branches.append(self.edge_branch(resize(edge_feature, top.shape[-2:])))
        return self.project(torch.cat(branches, dim=1))

    def _synchronized(self) -> bool:
        return any(isinstance(module, nn.SyncBatchNorm) for module in self.aspp.modules())


def _conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
