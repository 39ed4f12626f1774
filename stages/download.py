"""Stage `download@<dataset>`: put the raw data in place."""

from invad.pipeline import download
from invad.stage import main

if __name__ == "__main__":
    main(download)
