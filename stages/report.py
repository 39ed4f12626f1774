"""Stage `report`: metrics and maps of all benchmarks -> tables, figures and a page."""

from invad.pipeline.frame import main
from invad.pipeline.stages import report

if __name__ == "__main__":
    main(report)
