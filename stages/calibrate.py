"""Stage `calibrate@<benchmark>`: model and held-out normal images -> the thresholds that are kept with the model."""

from invad.pipeline import calibrate
from invad.stage import main

if __name__ == "__main__":
    main(calibrate)
