"""Stage `train@<benchmark>`: features -> model."""

from invad.pipeline import train
from invad.stage import main

if __name__ == "__main__":
    main(train)
