"""Metrics of visual anomaly detection (arXiv:2404.10760) for anybody's anomaly maps; needs numpy and scipy only.

All metrics of the paper, per class and in the mean over classes, in two protocols: `paper`, comparable to published
numbers, and `exact`. `evaluate` is the entry point.
"""

from invad.metrics.evaluation import Evaluation, evaluate
from invad.metrics.protocol import AVERAGES, KEYS, PROTOCOL_VERSION, PROTOCOLS

__all__ = ["AVERAGES", "KEYS", "PROTOCOLS", "PROTOCOL_VERSION", "Evaluation", "evaluate"]
