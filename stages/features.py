"""Stage `features@<benchmark>`: images -> features of the frozen encoder."""

from invad.pipeline.frame import main
from invad.pipeline.stages import features

if __name__ == "__main__":
    main(features)
