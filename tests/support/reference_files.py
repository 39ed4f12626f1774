"""The files of reference values: in the folder that INVAD_REFERENCE names, or in `shared/reference` beside the repository."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY

FOLDER = Path(os.environ.get("INVAD_REFERENCE") or REPOSITORY.parent / "shared/reference")


def reference_files(pattern: str) -> list:
    """Return the files of that pattern as values of a parameter; where there is none, one value whose tests are skipped."""
    paths = sorted(FOLDER.glob(pattern))
    missing = pytest.mark.skip(f"no reference values: no {pattern} in {FOLDER}; INVAD_REFERENCE names another folder")
    return [pytest.param(path, id=path.stem) for path in paths] or [pytest.param(None, id="none", marks=missing)]


def reference_arrays(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of `<name>.npz`; the test is skipped where the file is missing."""
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no reference values: no {path}; INVAD_REFERENCE names another folder")
    with np.load(path) as arrays:
        return dict(arrays)


def rounding(same: float, other: float) -> float:
    """Return the tolerance, or floor, for this processor: `same` with AVX-512, which made the reference values, `other` with other vectors.

    In float32 those add up in another order. What the toy networks amplify of that is in the reference values as much as in ours: from
    DRAEM's in double precision its restored images are off by 4e-5 and ours, with AVX2, by 3e-5, gradient norms by 11 and 13 % at most.
    """
    return same if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else other
