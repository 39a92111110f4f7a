"""Fits weights from a file into a model: this project's, the authors', or a published backbone's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from torch import Tensor

from gscnn.backbones.taps import Backbone
from gscnn.model import SegmentationModel
from gscnn.released_weights import in_our_order, released_names, with_unit_prior
from gscnn.state_dicts import listed, unwrapped

BACKBONE: Final = "regular_stream"
"""A model's backbone, in the names of its tensors."""

TITLES: Final = {BACKBONE: "backbone", "shape_stream": "shape stream"}
"""Part of a model -> its name for users; other parts have the same."""

COUNTER: Final = "num_batches_tracked"
"""Batch norm's counter, which training does not read and old files lack: loaded if it is there, and not counted."""

LEAST: Final = 0.5
"""Share of the backbone's tensors that must fit: with fewer the file is another network's."""

Parts = Literal["backbone", "all"]


class WeightsMisfitError(ValueError):
    """The weights are another network's."""


@dataclass(frozen=True)
class Part:
    """How many tensors of a part of the model are loaded."""

    loaded: int
    total: int


@dataclass(frozen=True)
class FittedWeights:
    """The tensors of a file that fit a model, and a report of them."""

    tensors: dict[str, Tensor]
    """Under the model's names, for `load_state_dict(..., strict=False)`; not copied, but for what is reordered."""
    parts: dict[str, Part]
    """By the part's name for users, in the model's order; counters are left out."""
    other_shape: tuple[str, ...]
    """A message for each tensor that is in the file in another shape, and is initialized."""
    missing: tuple[str, ...]
    """Tensors that the file lacks, and are initialized."""
    unused: tuple[str, ...]
    """Tensors of the file that the model does not have, or not in the parts to load, by the file's names."""

    def __str__(self) -> str:
        """`tensors loaded: backbone 100 of 100, head 11 of 12 (1 initialized); of another shape: ...`, for users."""
        counts = ", ".join(
            f"{title} {part.loaded} of {part.total}"
            + (f" ({part.total - part.loaded} initialized)" if part.loaded < part.total else "")
            for title, part in self.parts.items()
        )
        details = [f"of another shape: {listed(self.other_shape)}"] if self.other_shape else []
        # The counts say it of a part of which nothing is loaded.
        partly = {_part(name) for name in self.tensors}
        missing = [name for name in self.missing if _part(name) in partly]
        details += [f"not in the file: {listed(missing)}"] if missing else []
        details += [f"unused tensors of the file: {len(self.unused)} ({listed(self.unused)})"] if self.unused else []
        return "; ".join([f"tensors loaded: {counts}", *details])


def fit_weights(content: Mapping[str, object], model: SegmentationModel, parts: Parts = "all") -> FittedWeights:
    """The tensors of `content` that fit the model by name and shape; the others stay as the model initializes them.

    Args:
        content: a state dict, or a dict that holds one as "state_dict" or "model"; all names may start with "module.".
            Names are this project's, those that others publish the backbone under (`Backbone.foreign_names`), or the
            authors' released Gated-SCNN's, whose weight of the edge prior is then scaled to a prior in [0, 1].
        model: it is only asked for names and shapes, so it may be on the meta device.
        parts: "backbone" leaves all other parts of the file unused.

    Raises:
        WeightsMisfitError: less than half of the backbone's tensors fit; the message lists what does not.
        ValueError: what `content` keeps as its weights is no mapping.
    """
    expected = {name: value.shape for name, value in model.state_dict().items()}
    weights, names = _under_our_names(unwrapped(content), model, expected)
    wanted = {name: shape for name, shape in expected.items() if parts == "all" or _part(name) == BACKBONE}
    tensors = {name: value for name, value in weights.items() if name in wanted and value.shape == wanted[name]}
    counted = [name for name in expected if not name.endswith(COUNTER)]
    sought = [name for name in counted if name in wanted]
    fitted = FittedWeights(
        tensors=tensors,
        parts={
            TITLES.get(part, part): Part(sum(name in tensors for name in of_part), len(of_part))
            for part, _ in model.named_children()
            if (of_part := [name for name in counted if _part(name) == part])
        },
        other_shape=tuple(
            f"{name} is {list(weights[name].shape)} in the file, {list(wanted[name])} in the model"
            for name in sought
            if name in weights and name not in tensors
        ),
        missing=tuple(name for name in sought if name not in weights),
        unused=tuple(names[name] for name in weights if name not in wanted and not name.endswith(COUNTER)),
    )
    _check(fitted)
    return fitted


def _under_our_names(
    found: Mapping[str, object], model: SegmentationModel, expected: Mapping[str, object]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by our names, of unknown ones by the file's; and our name -> the file's."""
    weights = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    backbone = model.get_submodule(BACKBONE)
    assert isinstance(backbone, Backbone)
    ours_of = {theirs: ours for ours, theirs in released_names(expected, backbone).items()}
    if len(weights.keys() & ours_of.keys()) <= len(weights.keys() & expected.keys()):
        return weights, {name: name for name in weights}
    names = {ours_of.get(name, name): name for name in weights}
    return with_unit_prior(in_our_order({ours: weights[theirs] for ours, theirs in names.items()})), names


def _part(name: str) -> str:
    return name.partition(".")[0]


def _check(fitted: FittedWeights) -> None:
    part = fitted.parts[TITLES[BACKBONE]]
    if part.loaded >= LEAST * part.total:
        return
    of_backbone = tuple(each for each in fitted.other_shape if each.startswith(BACKBONE))
    missing = [name for name in fitted.missing if name.startswith(BACKBONE)]
    model_has = [f"of another shape: {listed(of_backbone)}"] if of_backbone else []
    model_has += [f"not in the file: {listed(missing)}"] if missing else []
    file_has = (
        f"In the file and not in the model: {listed(fitted.unused)}" if fitted.unused else "It has no other tensors"
    )
    raise WeightsMisfitError(
        f"{part.loaded} of the {part.total} tensors of the backbone fit, fewer than half: this is another network\n"
        f"Tensors of the model {'; '.join(model_has)}\n{file_has}"
    )
