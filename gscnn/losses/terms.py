"""The parts of every loss term: its sums, and the counts that normalize it, which add over batches and workers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import torch
import torch.distributed
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.distributed import ProcessGroup, ReduceOp

Counts = tuple[Int64[Tensor, "..."], ...]
"""Whole numbers on the batch's device, a tensor for each kind."""


class Term(NamedTuple):
    """One loss term of a batch, not yet divided."""

    counts: Counts
    """Counts of this batch alone."""
    value: Callable[[Counts], Float[Tensor, ""]]
    """The batch's part of the term, given the counts of all batches in the term; with its own counts, its mean."""

    def alone(self) -> Float[Tensor, ""]:
        """The term for this batch alone."""
        return self.value(self.counts)


class Workers:
    """The processes that take a step together, or this one alone if `group` is None.

    Every worker must call the same methods in the same order, whatever its batch holds. Nothing is read back to the
    host: with NCCL, the collectives are queued on the device like any kernel.
    """

    def __init__(self, group: ProcessGroup | None) -> None:
        self.group = group

    @property
    def number(self) -> int:
        return 1 if self.group is None else torch.distributed.get_world_size(self.group)

    def add(self, counts: Mapping[str, Counts]) -> dict[str, Counts]:
        """The counts summed over the workers: one collective of a few whole numbers, or none if there are no counts."""
        if self.group is None or not counts:
            return dict(counts)
        own = [count for of_term in counts.values() for count in of_term]
        numbers = self.sum(torch.cat([count.flatten() for count in own])).split([count.numel() for count in own])
        summed = iter(part.view(count.shape) for part, count in zip(numbers, own, strict=True))
        return {name: tuple(next(summed) for _ in of_term) for name, of_term in counts.items()}

    def sum(self, numbers: Int64[Tensor, " N"]) -> Int64[Tensor, " N"]:
        """Each number summed over the workers."""
        if self.group is None:
            return numbers
        torch.distributed.all_reduce(numbers, ReduceOp.SUM, self.group)
        return numbers

    def largest(self, values: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Each value's maximum over the workers."""
        if self.group is None:
            return values
        # Backends differ in the maximum of NaN and a number. A worker whose own value is NaN has a NaN loss in any
        # case, and only that worker should be reported.
        values = values.nan_to_num(nan=0.0)
        torch.distributed.all_reduce(values, ReduceOp.MAX, self.group)
        return values


ALONE: Final = Workers(None)
"""This process, which shares its step with no other."""


def without_void(
    logits: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B 1 H W"] | Bool[Tensor, "B H W"]
) -> Float[Tensor, "B C H W"]:
    """Logits in float32, or float64 if they are, and 0 on void.

    They are masked before anything is computed from them: a NaN or infinity on void that is masked later disappears
    from the value, but returns in the gradient as 0 * NaN.
    """
    valid = valid if valid.ndim == logits.ndim else valid.unsqueeze(1)
    return logits.where(valid, 0).to(torch.promote_types(logits.dtype, torch.float32))


def divided(total: Float[Tensor, ""], count: Int64[Tensor, ""]) -> Float[Tensor, ""]:
    """total / count in total's type; 0 if nothing was counted."""
    return total / count.clamp(min=1).to(total.dtype)


def sum_of(counts: Sequence[Counts]) -> Counts:
    """Counts of several batches, added element by element."""
    return tuple(torch.stack(place).sum(0) for place in zip(*counts, strict=True))
