"""An anomaly map laid over its image: colours and lines above the threshold alone, so that what is normal stays as it is."""

from dataclasses import dataclass
from functools import cache

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOUR_MAP = "inferno"  # perceptually uniform, readable in greyscale and with colour-blind eyes
DARKEST = 0.45  # where the colours of an overlay begin in the map: its dark end would look like the picture
FAINT, STRONGEST = 0.3, 0.8  # opacity of the colours: just above the threshold, and at their end
LINE, RIM = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True)
class Scale:
    """The map values at the two ends of the colours. faintest: the opacity of what lies just above `low`; below, nothing is drawn."""

    low: float
    high: float
    faintest: float

    @classmethod
    def of(cls, threshold: float | None, lowest: float, highest: float) -> "Scale":
        """From the pixel threshold to twice of it, so that colours compare between images; without one between the two values."""
        if threshold is not None and threshold > 0:
            return cls(threshold, 2 * threshold, FAINT)
        return cls(lowest, highest, 0.0)


@cache
def palette(begin: float = DARKEST) -> bytes:
    """256 colours, RGB; begin: where in the colour map the first lies, in [0, 1)."""
    colours = matplotlib.colormaps[COLOUR_MAP](np.linspace(begin, 1, 256))
    return (colours[:, :3] * 255).round().astype(np.uint8).tobytes()


def coloured(levels: NDArray[np.uint8], begin: float = DARKEST) -> Image.Image:
    """Levels (H, W) in their colours, RGB."""
    picture = Image.fromarray(levels)
    picture.putpalette(palette(begin))
    return picture.convert("RGB")


def heat(values: NDArray[np.float32], scale: Scale) -> tuple[Image.Image, Image.Image]:
    """The colours of a map, RGB, and how opaque they are, L. values: float32 (H, W)."""
    factor = np.float32(255 / (scale.high - scale.low) if scale.high > scale.low else 0.0)
    # Level 0 is what lies at `low` or below, and nothing else.
    levels = np.clip(np.ceil((values - np.float32(scale.low)) * factor), 0, 255).astype(np.uint8)
    shares = [scale.faintest + (STRONGEST - scale.faintest) * level / 255 for level in range(1, 256)]
    opacity = Image.fromarray(levels).point([0, *(round(255 * share) for share in shares)])
    return coloured(levels), opacity


def overlay(
    grey: Image.Image,
    values: NDArray[np.float32],
    scale: Scale,
    threshold: float | None,
    *,
    outlined: bool,
    half: float | None = None,
) -> Image.Image:
    """The image in grey (L) with the colours of its map, float32 (H, W), as RGB; outlined: lines around what is above the threshold."""
    colours, opacity = heat(values, scale)
    drawn = Image.composite(colours, grey.convert("RGB"), opacity)
    if outlined and threshold is not None:
        draw_lines(drawn, values, threshold, half=half)
    return drawn


def draw_lines(
    drawn: Image.Image,
    values: NDArray[np.float32],
    threshold: float,
    colour: tuple[int, int, int] = LINE,
    half: float | None = None,
) -> None:
    """Draw a line with a dark rim around what lies above the threshold; half: of its width in pixels, by default a thin one."""
    layer = line_layer(values, threshold, colour, half)
    drawn.paste(layer, mask=layer.getchannel("A"))


def line_layer(
    values: NDArray[np.float32], threshold: float, colour: tuple[int, int, int] = LINE, half: float | None = None
) -> Image.Image:
    """The lines of `draw_lines` alone, RGBA: transparent elsewhere, and everywhere where nothing lies above the threshold."""
    layer = Image.new("RGBA", values.shape[::-1], (*RIM, 0))
    above = values > np.float64(threshold)
    if not above.any():
        return layer
    slope = np.full_like(values, 1e-30)  # flat ground is far from any line
    for axis, length in enumerate(values.shape):
        if length > 1:
            slope = np.hypot(slope, np.gradient(values, axis=axis))
    distance = np.abs(values - np.float32(threshold)) / slope  # in pixels, where the line is near
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]).astype(np.float32) for n in values.shape)
    np.minimum(distance, np.minimum(rows[:, None], columns), out=distance, where=above)
    half = half or 0.5 + min(values.shape) / 2048
    rim, line = (
        Image.fromarray((np.clip(reach - distance, 0, 1) * np.float32(255)).astype(np.uint8))
        for reach in (half + 1.5, half + 0.5)
    )
    layer.paste(colour, mask=line)
    layer.putalpha(rim)
    return layer
