"""Stage `evaluate@<benchmark>`: anomaly maps -> metrics."""

from invad.pipeline import evaluate
from invad.stage import main

if __name__ == "__main__":
    main(evaluate)
