"""Stage `features@<benchmark>`: images -> features of the frozen encoder."""

from invad.pipeline import features
from invad.stage import main

if __name__ == "__main__":
    main(features)
