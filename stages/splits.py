"""Stage `splits@<benchmark>`: raw data -> split table."""

from invad.pipeline.frame import main
from invad.pipeline.stages import splits

if __name__ == "__main__":
    main(splits)
