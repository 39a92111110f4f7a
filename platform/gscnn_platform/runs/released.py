"""What is known of the authors' released checkpoint, beside its weights: network, edge prior and classes."""

from typing import Final

from gscnn.config import ModelConfig
from gscnn.constants import IGNORE_INDEX
from gscnn_platform.config import DataConfig, EdgeConfig, ExperimentConfig
from gscnn_platform.data.formats.cityscapes import CLASSES, label_table
from gscnn_platform.data.store import Identity

EDGES: Final = EdgeConfig(gradient="released", void_edges=True)

RELEASED: Final = ExperimentConfig(
    name="released",
    model=ModelConfig(backbone="wide_resnet38", num_classes=len(CLASSES)),
    data=DataConfig(edges=EDGES),
)
"""How the weights were trained is in the recipe `cityscapes-paper`; here, only what using them needs."""

RELEASED_DATASET: Final = Identity(
    schema_version=0,
    dataset="cityscapes",
    edges=EDGES,
    ignore_index=IGNORE_INDEX,
    classes=tuple(name for name, _, _ in CLASSES),
    colours=tuple(colour for _, _, colour in CLASSES),
    label_table=label_table(),
    content="the authors' copy",
)
"""Cityscapes' classes; the authors' copy of the data was in no store."""
