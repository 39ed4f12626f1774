"""Stage `ablate@<module>`: a benchmark's features -> tables that compare the variants of a module."""

from invad.pipeline import ablate
from invad.stage import main

if __name__ == "__main__":
    main(ablate)
