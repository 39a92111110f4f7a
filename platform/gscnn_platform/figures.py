"""Pictures of a model's predictions: image, ground truth, prediction, predicted edge and edge prior side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from gscnn.batch import SegBatch
from gscnn.config import InferenceConfig
from gscnn.constants import IGNORE_INDEX, IMAGE_MEAN, IMAGE_STD
from gscnn.inference import infer
from gscnn_platform.label_pictures import VOID_COLOUR, colourise
from gscnn_platform.names import picture_text


@dataclass(frozen=True)
class Panels:
    """The five pictures of one sample, each [H, W] or [H, W, 3]."""

    image: UInt8[np.ndarray, "H W 3"]
    truth: UInt8[np.ndarray, "H W"]
    prediction: UInt8[np.ndarray, "H W"]
    edge: Float[np.ndarray, "H W"] | None
    """Predicted edge probability; None from a model without a shape stream."""
    prior: Float[np.ndarray, "H W"]


def predict_panels(model: nn.Module, batch: SegBatch, inference: InferenceConfig | None = None) -> list[Panels]:
    """Returns the model's predictions for each sample of a batch on its device; by default from one forward pass."""
    was_training = model.training
    model.eval()
    prediction = infer(model, batch.image, batch.gradient, inference or InferenceConfig())
    model.train(was_training)
    labels, edges = prediction.label.cpu(), None if prediction.edge is None else prediction.edge.cpu()
    return [
        Panels(
            image=denormalize(batch.image[index]),
            truth=batch.label[index].cpu().numpy(),
            prediction=labels[index].numpy(),
            edge=None if edges is None else edges[index, 0].numpy(),
            prior=batch.gradient[index, 0].cpu().numpy(),
        )
        for index in range(len(batch))
    ]


def denormalize(image: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a normalized image as uint8 RGB, for display."""
    pixels = image.float().cpu() * torch.tensor(IMAGE_STD).view(3, 1, 1) + torch.tensor(IMAGE_MEAN).view(3, 1, 1)
    return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def draw_panels(
    panels: Sequence[Panels],
    names: Sequence[str],
    classes: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    title: str,
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns an RGB picture with a row per sample under column titles, and the legend of the classes below."""
    # Imported here: it takes 2 s of a core, and neither prediction nor the start of training needs matplotlib.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    with_edge = panels[0].edge is not None
    titles = ["image", "ground truth", "prediction", *(["predicted edge"] if with_edge else []), "edge prior"]
    height, width = panels[0].truth.shape
    cell = 2.6
    row_height = cell * height / width
    with matplotlib.rc_context({"axes.linewidth": 0.4}):
        figure = Figure(
            figsize=(cell * len(titles) + 0.3, row_height * len(panels) + 1.25), dpi=110, layout="constrained"
        )
        canvas = FigureCanvasAgg(figure)
        figure.suptitle(picture_text(title), fontsize=11)
        axes = figure.subplots(len(panels), len(titles), squeeze=False)
        for row, (sample, name) in enumerate(zip(panels, names, strict=True)):
            truth = colourise(sample.truth, colours)
            prediction = colourise(np.where(sample.truth == IGNORE_INDEX, sample.truth, sample.prediction), colours)
            pictures = [sample.image, truth, prediction, *([sample.edge] if with_edge else []), sample.prior]
            for axis, heading, picture in zip(axes[row], titles, pictures, strict=True):
                axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axis.set_xticks([])
                axis.set_yticks([])
                if row == 0:
                    axis.set_title(heading, fontsize=9)
            axes[row][0].set_ylabel(picture_text(name), fontsize=7)
        patches = [
            Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), edgecolor="0.5", label=picture_text(label))
            for label, colour in zip((*classes, "void"), (*colours, VOID_COLOUR), strict=True)
        ]
        figure.legend(
            handles=patches, loc="outside lower center", ncols=min(len(patches), 10), fontsize=8, frameon=False
        )
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
