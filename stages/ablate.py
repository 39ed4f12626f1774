"""Stage `ablate@<module>`: a benchmark's features -> tables that compare the variants of a module."""

from invad.pipeline.frame import main
from invad.pipeline.stages import ablate

if __name__ == "__main__":
    main(ablate)
