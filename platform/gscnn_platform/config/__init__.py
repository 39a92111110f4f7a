"""The configs: ExperimentConfig and its parts. The line below each field gives its unit and source.

The model's and the losses' configs are gscnn's.
"""

from gscnn.config import Execution, InferenceConfig, LossConfig, ModelConfig
from gscnn_platform.config.augmentation import AugmentationConfig
from gscnn_platform.config.base import Config, Inline, is_inline
from gscnn_platform.config.data import CacheConfig, DataConfig
from gscnn_platform.config.edges import EdgeConfig
from gscnn_platform.config.evaluation import EvaluateConfig
from gscnn_platform.config.execution import EXECUTION, execution_fields
from gscnn_platform.config.experiment import ExperimentConfig
from gscnn_platform.config.export import ExportConfig
from gscnn_platform.config.init import InitConfig
from gscnn_platform.config.inspection import InspectConfig
from gscnn_platform.config.optimizer import OptimizerConfig
from gscnn_platform.config.overrides import flatten, with_overrides
from gscnn_platform.config.prediction import PredictConfig
from gscnn_platform.config.tracking import OnDeleted, TrackingConfig, has_password
from gscnn_platform.config.training import Metric, TrainingConfig
from gscnn_platform.config.verification import VerifyConfig

__all__ = [
    "EXECUTION",
    "AugmentationConfig",
    "CacheConfig",
    "Config",
    "DataConfig",
    "EdgeConfig",
    "EvaluateConfig",
    "Execution",
    "ExperimentConfig",
    "ExportConfig",
    "InferenceConfig",
    "InitConfig",
    "Inline",
    "InspectConfig",
    "LossConfig",
    "Metric",
    "ModelConfig",
    "OnDeleted",
    "OptimizerConfig",
    "PredictConfig",
    "TrackingConfig",
    "TrainingConfig",
    "VerifyConfig",
    "execution_fields",
    "flatten",
    "has_password",
    "is_inline",
    "with_overrides",
]
