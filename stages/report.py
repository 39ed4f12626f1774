"""Stage `report`: metrics and maps of all benchmarks -> tables, figures and a page."""

from invad.pipeline import report
from invad.stage import main

if __name__ == "__main__":
    main(report)
