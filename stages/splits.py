"""Stage `splits@<benchmark>`: raw data -> split table."""

from invad.pipeline import splits
from invad.stage import main

if __name__ == "__main__":
    main(splits)
