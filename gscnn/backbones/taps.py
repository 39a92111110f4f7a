"""The output of every backbone, for the shape stream, the fusion and the head."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Generic, NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")
B = TypeVar("B", bound="Backbone")


class Taps(NamedTuple, Generic[T]):
    """Five feature maps of a backbone: Tensor in a forward pass, int for their channel counts.

    Each family has its own strides, listed at the top of its file; they never decrease from one tap to the next. Every
    reader of a tap resizes it, so any stride works, and two taps may have the same one.
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
    frozen_stages: tuple[str, ...] = ()
    """Names of the stages that `freeze` froze."""
    batch_norm_is_frozen: bool = False
    """Whether `freeze` froze the batch norms of all stages."""

    def foreign_names(self) -> dict[str, str]:
        """Name of a tensor in files that others publish for this network -> its name here; empty if there are none."""
        return {}

    @abstractmethod
    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Taps[Tensor]:
        """The five taps of a batch of images."""

    def stage(self, name: str) -> nn.Module:
        """Returns the modules of a stage, by its name in Network.stages; by default the submodule of that name."""
        return self.get_submodule(name)

    def freeze(self, stages: Iterable[str], batch_norm: bool) -> None:
        """Freezes the weights and buffers of these stages and, if `batch_norm`, of all batch norms.

        Frozen modules stay in evaluation mode while the rest is trained: batch norm normalizes by its running
        statistics, and dropout does nothing.
        """
        self.frozen_stages, self.batch_norm_is_frozen = tuple(stages), batch_norm
        for module in self._frozen():
            module.requires_grad_(False)
        self.train(self.training)

    def train(self: B, mode: bool = True) -> B:
        """Sets training mode for all but the frozen modules, or evaluation mode for all."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def _frozen(self) -> Iterator[nn.Module]:
        # Looked up at each call: SyncBatchNorm.convert_sync_batchnorm replaces batch norms.
        for name in self.frozen_stages:
            yield self.stage(name)
        if self.batch_norm_is_frozen:
            yield from (module for module in self.modules() if isinstance(module, _BatchNorm))

    def convert_sync_batchnorm(self, model: nn.Module) -> nn.Module:
        """`model`, which has this backbone, with SyncBatchNorm in place of every batch norm.

        A family with norms that torch's conversion does not know overrides it.
        """
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def run(self, blocks: Iterable[nn.Module], x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Runs `x` through the blocks, one after another.

        With activation_checkpointing in training mode, only each block's input is kept, and the backward pass runs the
        block again (Chen et al., arXiv:1604.06174). Outputs, gradients and buffers are bit-identical.
        """
        for block in blocks:
            x = _checkpointed(block, x) if self.activation_checkpointing and self.training else block(x)
        return x


def _checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        # A compiled graph accepts no contexts and needs none: it updates buffers once, outside the recomputation.
        return cast(Tensor, checkpoint(block, x, use_reentrant=False))
    return cast(Tensor, checkpoint(block, x, use_reentrant=False, context_fn=partial(_contexts, block)))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the forward pass and of its recomputation."""
    return nullcontext(), _OnCopiesOfBuffers(block)


class _OnCopiesOfBuffers(AbstractContextManager[None]):
    """Makes the block's batch norms update copies of their statistics and counters: a batch counts once, not twice.

    With track_running_stats=False instead, autograd would save fewer tensors than in the forward pass and fail.
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
