"""Gated-SCNN (Takikawa et al., ICCV 2019): model, losses, edges and metrics. No Ray, no MLflow, no files.

__init__.pyi lists the names. Each is imported on first use, so that reading a config needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
