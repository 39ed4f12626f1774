"""Image scores from the stored anomaly maps of trained detectors and a few labels: SegAD (arXiv:2405.04953)."""
