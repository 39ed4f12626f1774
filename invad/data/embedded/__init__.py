"""Small generated data sets, laid out on disk exactly as the real ones, so that nothing need be downloaded."""

from invad.data.embedded.coco import generate_coco
from invad.data.embedded.products import generate_btad, generate_mvtec, generate_vad, generate_visa
from invad.data.embedded.real_iad import generate_real_iad

GENERATORS = {
    "coco": generate_coco,
    "mvtec": generate_mvtec,
    "visa": generate_visa,
    "btad": generate_btad,
    "vad": generate_vad,
    "realiad": generate_real_iad,
}
