from .batch import SegBatch, SegmentationOutput
from .config import LossConfig, ModelConfig
from .constants import IGNORE_INDEX
from .losses import BoundaryBCELoss, DualTaskLoss, DualTaskRegularizer, JointLoss
from .model import DeepLabV3Plus, GatedSCNN, SegmentationModel, build_model

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
    "SegmentationModel",
    "SegmentationOutput",
    "build_model",
]
