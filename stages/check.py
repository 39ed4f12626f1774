"""Stage `check`: params.yaml and the code -> whether the settings are right, and what code each stage depends on."""

from invad.pipeline import check
from invad.stage import main

if __name__ == "__main__":
    main(check)
