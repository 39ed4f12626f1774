"""Stage `evaluate@<benchmark>`: anomaly maps -> metrics."""

from invad.pipeline.frame import main
from invad.pipeline.stages import evaluate

if __name__ == "__main__":
    main(evaluate)
