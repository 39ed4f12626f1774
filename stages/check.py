"""Stage `check`: params.yaml and the code -> whether the settings are right, and what each stage depends on."""

from invad.pipeline.frame import main
from invad.pipeline.stages import check

if __name__ == "__main__":
    main(check)
