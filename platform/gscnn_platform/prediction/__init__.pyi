from .job import PredictError, PredictResult, describe, predict
from .predictor import CHUNK, KINDS, Predictor
from .workers import CORES

__all__ = [
    "CHUNK",
    "CORES",
    "KINDS",
    "PredictError",
    "PredictResult",
    "Predictor",
    "describe",
    "predict",
]
