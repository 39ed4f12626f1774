"""Metrics of visual anomaly detection (arXiv:2404.10760) for anybody's anomaly maps; needs numpy and scipy only.

All metrics of the paper, per class and in the mean over classes, in two protocols: `paper`, comparable to published
numbers, and `exact`. `evaluate` is the entry point; `bootstrap` says how much each value depends on the test images that there are;
`operating_point` measures what a threshold gives that was chosen without test data.
"""

from invad.metrics.calibration import Thresholds, operating_point
from invad.metrics.evaluation import Evaluation, evaluate
from invad.metrics.intervals import Intervals, bootstrap
from invad.metrics.protocol import AVERAGES, KEYS, PROTOCOL_VERSION, PROTOCOLS
