"""The output of every backbone, for the shape stream, the fusion and the head."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Generic, NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


class Taps(NamedTuple, Generic[T]):
    """Five places of a backbone: of type Tensor in a forward pass, of type int for their channel counts.

    Strides are the family's own, and its file opens with them; they never fall from one tap to the next. Whatever reads
    a tap resizes it, so that any stride will do, and two taps may share one.
    """

    stem: T
    """The finest; starts the shape stream."""
    low_level: T
    """Sharpens the head."""
    gate1: T
    """Gates the first gated convolution."""
    gate2: T
    """Gates the second."""
    top: T
    """At the output stride; gates the third and feeds the fusion."""


class Backbone(nn.Module, ABC):
    """A network that maps an image [B, 3, H, W] to Taps; a family's class sets `channels` and defines `forward`.

    The top's stride is the output stride that it was built for.
    """

    channels: Taps[int]
    activation_checkpointing: bool = False
    """Whether `run` checkpoints activations in training mode; ModelConfig.activation_checkpointing sets it."""

    @abstractmethod
    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Taps[Tensor]:
        """The five taps of a batch of images."""

    def run(self, blocks: Iterable[nn.Module], x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """`x` through the blocks, one after another.

        With activation_checkpointing, in training mode, only what enters each block is kept, and the backward pass
        runs the block again (Chen et al., arXiv:1604.06174). Outputs, gradients and buffers stay the same to the bit.
        """
        for block in blocks:
            x = _checkpointed(block, x) if self.activation_checkpointing and self.training else block(x)
        return x


def _checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        # A compiled graph takes no contexts and needs none: it updates buffers once, outside what it repeats.
        return cast(Tensor, checkpoint(block, x, use_reentrant=False))
    return cast(Tensor, checkpoint(block, x, use_reentrant=False, context_fn=partial(_contexts, block)))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the forward pass and for its repetition."""
    return nullcontext(), _OnCopiesOfBuffers(block)


class _OnCopiesOfBuffers(AbstractContextManager[None]):
    """Within it the block's batch norms update copies of their statistics and counters: a batch counts once, not twice.

    With track_running_stats=False instead, autograd would save fewer tensors than in the forward pass, an error.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.kept: list[tuple[nn.Module, str, Tensor]] = []

    def __enter__(self) -> None:
        modules = self.block.modules()
        self.kept = [
            (module, name, buffer) for module in modules for name, buffer in module.named_buffers(recurse=False)
        ]
        for module, name, buffer in self.kept:
            setattr(module, name, buffer.clone())

    def __exit__(self, *_: object) -> None:
        for module, name, buffer in self.kept:
            setattr(module, name, buffer)
