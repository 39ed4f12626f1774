"""Stage `score@<benchmark>`: model and test features -> anomaly maps and image scores."""

from invad.pipeline import score
from invad.stage import main

if __name__ == "__main__":
    main(score)
