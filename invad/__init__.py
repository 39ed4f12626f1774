"""Reproducible multi-class visual anomaly detection: InvAD, COCO-AD and the metrics of arXiv:2404.10760, as one pipeline."""

__version__ = "0.1.0"
