"""Files that `torch.save` wrote, without the code that they could run, and with a look at their checksums, which torch does not take."""

import zipfile
from pathlib import Path
from typing import Any


def read_tensors(path: Path) -> Any:  # noqa: ANN401  (whatever a file of tensors holds)
    """Return what such a file holds, on the CPU.

    Raises:
        Exception: It is damaged, or holds more than tensors: torch and zipfile raise pickle, zip, index and runtime errors alike.
    """
    import torch  # slow to import

    if zipfile.is_zipfile(path):  # files of torch before 1.6 are none, and have no checksums
        with zipfile.ZipFile(path) as archive:
            if (member := archive.testzip()) is not None:
                raise ValueError(f"{member} has another checksum")
    return torch.load(path, map_location="cpu", weights_only=True)
