"""Constants of labels and images. Readable without torch."""

from typing import Final

IGNORE_INDEX: Final = 255
"""Label of void pixels: no loss and no metric depends on them, in value or in gradient."""

IMAGE_MEAN: Final = (0.485, 0.456, 0.406)
IMAGE_STD: Final = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet in RGB, on [0, 1]: what torchvision's backbone weights expect."""
