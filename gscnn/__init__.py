"""Gated-SCNN (Takikawa et al., ICCV 2019): model, losses, edges and metrics. No Ray, no MLflow, no files."""

from gscnn.batch import IGNORE_INDEX, SegBatch
from gscnn.losses import BoundaryBCELoss, DualTaskLoss, DualTaskRegularizer, JointLoss, LossConfig
from gscnn.model import DeepLabV3Plus, GatedSCNN, ModelConfig, SegmentationOutput, build_model

__all__ = [
    "IGNORE_INDEX",
    "BoundaryBCELoss",
    "DeepLabV3Plus",
    "DualTaskLoss",
    "DualTaskRegularizer",
    "GatedSCNN",
    "JointLoss",
    "LossConfig",
    "ModelConfig",
    "SegBatch",
    "SegmentationOutput",
    "build_model",
]
