"""Prediction of files: pictures of images, overlay videos of videos, and a page of them.

__init__.pyi lists the names. Each is imported on first use: bad input is reported before torch is imported.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
