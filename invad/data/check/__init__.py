"""Check the images and masks of a benchmark: decode every file and look for what would spoil or bias its results."""

from invad.data.check.report import CheckReport, Finding
from invad.data.check.rules import check_split

__all__ = ["CheckReport", "Finding", "check_split"]
