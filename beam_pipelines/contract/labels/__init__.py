"""Label tables: what masks hold, and the classes that it becomes. `table` has the form, the other modules the facts of
one data set each.
"""

from beam_pipelines.contract.labels.a2d2 import a2d2, a2d2_to_cityscapes19
from beam_pipelines.contract.labels.ade20k import ade20k150, ade20k_to_cityscapes19
from beam_pipelines.contract.labels.camvid import camvid11, camvid32, camvid32_to_camvid11
from beam_pipelines.contract.labels.cityscapes import bdd100k, cityscapes7, cityscapes19, cityscapes_train_ids
from beam_pipelines.contract.labels.idd import idd26, idd_to_cityscapes19, idd_to_idd26
from beam_pipelines.contract.labels.mapillary import mapillary65, mapillary_to_cityscapes19
from beam_pipelines.contract.labels.table import IGNORE as IGNORE
from beam_pipelines.contract.labels.table import MAX_COLOR_DISTANCE as MAX_COLOR_DISTANCE
from beam_pipelines.contract.labels.table import MAX_SOURCE_ID as MAX_SOURCE_ID
from beam_pipelines.contract.labels.table import REPAIRS as REPAIRS
from beam_pipelines.contract.labels.table import UNKNOWN as UNKNOWN
from beam_pipelines.contract.labels.table import Color as Color
from beam_pipelines.contract.labels.table import Label as Label
from beam_pipelines.contract.labels.table import LabelTable as LabelTable
from beam_pipelines.contract.labels.table import LabelTableError as LabelTableError
from beam_pipelines.contract.labels.table import TableFields as TableFields
from beam_pipelines.contract.labels.voc import voc21

_TABLES = (
    cityscapes19,
    cityscapes7,
    cityscapes_train_ids,
    camvid11,
    camvid32,
    camvid32_to_camvid11,
    bdd100k,
    idd26,
    idd_to_idd26,
    idd_to_cityscapes19,
    mapillary65,
    mapillary_to_cityscapes19,
    a2d2,
    a2d2_to_cityscapes19,
    ade20k150,
    ade20k_to_cityscapes19,
    voc21,
)
BUILTIN_TABLES = {make.__name__: make for make in _TABLES}
