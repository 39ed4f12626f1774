"""Stage `download@<dataset>`: put the raw data in place."""

from invad.pipeline.frame import main
from invad.pipeline.stages import download

if __name__ == "__main__":
    main(download)
