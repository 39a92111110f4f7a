"""Edge prior and edge label of a store."""

from pydantic import Field

from gscnn.config import GradientMethod
from gscnn_platform.config.base import Config


class EdgeConfig(Config):
    """Edge prior and edge label of a store. Part of its fingerprint."""

    gradient: GradientMethod = "canny"
    """Edge prior that the shape stream reads (gscnn.edges.image_gradient). `released` has the defect that the authors'
    released weights rely on, and exists for these alone: a model that is trained here should use another."""
    radius: int = Field(default=2, ge=1, le=32)
    """Distance in pixels up to which another class makes a pixel a boundary (released code: 2)."""
    void_edges: bool = False
    """Whether void and everything outside the frame count as one more class, as in the released code; in training, the
    crop is the frame. (The released code has no channel for class 0, which merges with void and frame:
    gscnn.released_weights.released_boundary_map.)"""
