"""Stage `train@<benchmark>`: features -> model."""

from invad.pipeline.frame import main
from invad.pipeline.stages import train

if __name__ == "__main__":
    main(train)
