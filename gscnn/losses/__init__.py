"""The losses of Gated-SCNN: `L = seg * CE + edge * balanced BCE + attention * CE on predicted edges + dual * outlines`.

`lovasz` and `dice` weigh two further terms, on the overlap of regions; `seg` may count only hard pixels.

All take logits, count their valid pixels themselves, and stay on the device: no value is read back to the host. Void
pixels (ignore_index) affect neither values nor gradients.
"""

from gscnn.losses.attention import DualTaskLoss, attention_loss
from gscnn.losses.boundary import BoundaryBCELoss, boundary_bce_loss
from gscnn.losses.cross_entropy import image_class_weights, pixel_cross_entropy
from gscnn.losses.dual import (
    DualTaskRegularizer,
    dual_task_regularizer,
)
from gscnn.losses.joint import JointLoss, StepCounts

__all__ = [
    "BoundaryBCELoss",
    "DualTaskLoss",
    "DualTaskRegularizer",
    "JointLoss",
    "StepCounts",
    "attention_loss",
    "boundary_bce_loss",
    "dual_task_regularizer",
    "image_class_weights",
    "pixel_cross_entropy",
]
