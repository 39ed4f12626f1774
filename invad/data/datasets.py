"""The published data sets: what is particular to each, in its own module, and the one dictionary of all."""

from invad.data.btad import BTAD
from invad.data.coco_ad import COCO
from invad.data.counts import PublishedDataset
from invad.data.mvtec import MVTEC_AD
from invad.data.real_iad import REAL_IAD
from invad.data.vad import VAD
from invad.data.visa import VISA

DATASETS: dict[str, PublishedDataset] = {
    "coco": COCO,
    "mvtec": MVTEC_AD,
    "visa": VISA,
    "btad": BTAD,
    "vad": VAD,
    "realiad": REAL_IAD,
}
