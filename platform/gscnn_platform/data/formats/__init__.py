"""The dataset formats by name. A new format needs a file in this folder and one line here."""

from gscnn_platform.data.formats.ade20k import ADE20K
from gscnn_platform.data.formats.base import (
    DatasetDescription,
    DatasetError,
    DatasetFormat,
    Sample,
    remap,
)
from gscnn_platform.data.formats.bdd100k import BDD100K
from gscnn_platform.data.formats.camvid import CamVid
from gscnn_platform.data.formats.camvid_original import CamVidOriginal
from gscnn_platform.data.formats.cityscapes import Cityscapes
from gscnn_platform.data.formats.decoding import BadSampleError
from gscnn_platform.data.formats.folder import Folder
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.data.formats.union import Union
from gscnn_platform.data.formats.vistas import Vistas
from gscnn_platform.data.formats.voc import VOC

__all__ = ["FORMATS", "BadSampleError", "DatasetDescription", "DatasetError", "DatasetFormat", "Sample", "remap"]

FORMATS: dict[str, DatasetFormat] = {
    "ade20k": ADE20K(),
    "bdd100k": BDD100K(),
    "camvid": CamVid(),
    "camvid-original": CamVidOriginal(),
    "cityscapes": Cityscapes(),
    "folder": Folder(),
    "streets": Streets(),
    "union": Union(),
    "vistas": Vistas(),
    "voc": VOC(),
}
