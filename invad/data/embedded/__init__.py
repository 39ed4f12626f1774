"""Small generated data sets, laid out on disk exactly as COCO 2017, MVTec AD and VisA, so that nothing need be downloaded."""

from invad.data.embedded.coco import generate_coco
from invad.data.embedded.products import generate_mvtec, generate_visa

GENERATORS = {"coco": generate_coco, "mvtec": generate_mvtec, "visa": generate_visa}
