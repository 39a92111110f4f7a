"""By class, how many of an epoch's crops contain it: counted on the device, read once an epoch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch
import torch.distributed
from jaxtyping import Integer
from torch import Tensor

from gscnn_platform.data.store import Store
from gscnn_platform.training.progress import say

if TYPE_CHECKING:
    # The benchmarks train without tracking, on machines without MLflow.
    from gscnn_platform.tracking import RunWriter

SHOWN: Final = 3
VALUES: Final = 256
"""Of a label."""


class CropCounts:
    """The crops of all workers that contain each class, since the last report.

    Args:
        store: names the classes.
        split: trained on.
        device: of the labels; only `tell` waits for it.
        world_size: over which crops are added up.
        writer: MLflow's, on rank 0 only.
        speak: whether this process prints.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        device: torch.device,
        world_size: int,
        writer: "RunWriter | None",
        speak: bool,
    ) -> None:
        self.classes, self.pixels = store.manifest.identity.classes, store.manifest.splits[split].pixels
        self.world_size, self.writer, self.speak = world_size, writer, speak
        self._counts = torch.zeros(VALUES + 1, dtype=torch.int64, device=device)
        """Crops that contain each value of a label and, last, all crops."""

    def add(self, label: Integer[Tensor, "B H W"]) -> None:
        """Counts a batch: 1.6 ms a crop of 720 x 720 on a core, and nothing that a GPU's step waits for."""
        contains = torch.zeros(len(label), VALUES + 1, dtype=torch.int64, device=label.device)
        contains.scatter_(1, label.flatten(1).long(), 1)
        contains[:, VALUES] = 1
        self._counts += contains.sum(0)

    def tell(self, epoch: int) -> None:
        """Logs each class's share of the crops since the last call, or since the run was resumed, and begins anew.

        Called on all workers at the same steps. A line for users names the rarest after the first epoch.
        """
        if self.world_size > 1:
            torch.distributed.all_reduce(self._counts)
        counts = self._counts.tolist()
        self._counts.zero_()
        shares = {name: counts[train_id] / counts[VALUES] for train_id, name in enumerate(self.classes)}
        if self.writer is not None:
            self.writer.log_steps([(epoch, {f"train_crops/{name}": share for name, share in shares.items()})])
        if self.speak and epoch == 1:
            say(self._rarest(shares))

    def _rarest(self, shares: Mapping[str, float]) -> str:
        """Of the classes that the training split has."""
        present = [name for name, pixels in zip(self.classes, self.pixels, strict=True) if pixels]
        rarest = sorted(present, key=lambda name: shares[name])[:SHOWN]
        return f"classes in the fewest crops: {', '.join(f'{name} {shares[name]:.1%}' for name in rarest)}"
