"""How networks run, wherever they do."""

from pydantic.dataclasses import dataclass

from invad.config.types import STRICT, Precision


def check_image_size(size: int, multiple: int) -> None:
    """Raise `ValueError` that names the nearest accepted sizes unless `size` is a multiple of `multiple`."""
    if size % multiple:
        below = size // multiple * multiple
        raise ValueError(
            f"image_size: must be a multiple of {multiple}, such as {below} or {below + multiple}, not {size}"
        )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ComputeConfig:
    """How a network runs. None of it is part of the recipe, but each changes how results are rounded (docs/speed.md has by how much).

    `precision`: of convolutions, by torch's autocast; weights, losses and maps stay float32. `channels_last`: the memory format of
    convolutions. `compile`: by torch.compile, which takes a minute at the start and needs a C++ compiler on a CPU.
    """

    precision: Precision = "float32"
    channels_last: bool = True
    compile: bool = False
