"""Stage `score@<benchmark>`: model and test features -> anomaly maps and image scores."""

from invad.pipeline.frame import main
from invad.pipeline.stages import score

if __name__ == "__main__":
    main(score)
