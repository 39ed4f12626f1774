"""Stage `supervise@<name>`: anomaly maps of detectors and a few labels -> image scores of a supervised method."""

from invad.pipeline.frame import main
from invad.pipeline.stages import supervise

if __name__ == "__main__":
    main(supervise)
