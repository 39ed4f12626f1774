"""A lit canvas for the generated data sets: shapes with a finish, noise, camera effects.

Everything is drawn at `SUPERSAMPLING` times the final resolution and averaged down. Colours are linear-looking RGB
triples in [0, 1]; nothing here claims photometric accuracy, only pictures with plausible light, shade and grain.
"""

import colorsys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLING = 2
NOMINAL_SIZE = 320  # longer edge of the canvas, in supersampled pixels, at which one noise sample covers one pixel

Array = NDArray[np.floating]
Colour = tuple[float, float, float]
Point = tuple[float, float]
Outline = Sequence[Point] | NDArray[np.floating]  # (n, 2)
Rng = np.random.Generator


def image_rng(seed: int, *key: str | int) -> Rng:
    """Generator of one image, keyed by what the image is, so that other images never shift its random numbers."""
    spawn_key = tuple(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=spawn_key))


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """RGB of a hue (any real number, one turn is 1), saturation and value."""
    return colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))


def plane(colour: Colour) -> Array:
    """The colour as an array (3, 1, 1), to be spread over (3, height, width)."""
    return np.asarray(colour, np.float32)[:, None, None]


def scaled(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor < 1) or brighter."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def jittered(rng: Rng, colour: Colour, amount: float = 0.05) -> Colour:
    """The colour with a small random change of hue, saturation and value."""
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    shift = rng.uniform(-amount, amount, 3)
    return hsv(hue + 0.3 * shift[0], saturation * (1 + 2 * shift[1]), value * (1 + 2 * shift[2]))


@cache
def _noise_bank(kind: str) -> Array:
    """Periodic unit-variance noise (1024x1024: the 512x512 period twice each way), the same in every process."""
    exponent, stretch_x, stretch_y = {
        "cloud": (1.9, 1.0, 1.0),
        "grain": (0.5, 1.0, 1.0),
        "fibre": (1.1, 14.0, 1.0),  # long along x: wood, brushed metal
        "grass": (0.9, 1.0, 4.0),
        "fur": (0.5, 1.0, 2.5),
    }[kind]
    period = 512
    frequency = np.fft.fftfreq(period)
    radius = np.hypot(frequency[None, :] * stretch_x, frequency[:, None] * stretch_y)
    radius[0, 0] = np.inf
    white = np.random.default_rng(zlib.crc32(kind.encode())).standard_normal((period, period))
    # the roll-off keeps the finest noise wider than a supersampled pixel, otherwise averaging down removes it
    spectrum = np.fft.fft2(white) * radius**-exponent * np.exp(-((radius / 0.25) ** 2))
    field = np.fft.ifft2(spectrum).real
    return np.tile((field / field.std()).astype(np.float32), (2, 2))


@dataclass(frozen=True)
class Finish:
    """How a surface takes light; `blur` softens the outline, `bevel` and it are fractions of the shape's smaller side."""

    relief: float = 0.45
    bevel: float = 0.14
    gloss: float = 0.0
    noise: str | None = None
    noise_strength: float = 0.0
    opacity: float = 1.0
    blur: float = 0.0


class Canvas:
    """An RGB picture under construction, (3, height, width) float32 at supersampled resolution, with one directional light.

    `coverage` (height, width) uint8 collects the shapes drawn since `start_coverage`; `clip`, when set, limits all drawing to a
    (height, width) weight in [0, 1]; `kept` is an earlier `rgb`, which drawing with the colour None brings back.
    """

    def __init__(self, rng: Rng, width: int, height: int, light_angle: float) -> None:
        self.rng = rng
        self.width, self.height = width * SUPERSAMPLING, height * SUPERSAMPLING
        self.zoom = max(self.width, self.height) / NOMINAL_SIZE
        self.light = (float(np.cos(light_angle)), float(np.sin(light_angle)))  # points towards the light, y down
        self.rgb = np.zeros((3, self.height, self.width), np.float32)
        self.coverage = np.zeros((self.height, self.width), np.uint8)
        self.clip: Array | None = None
        self.kept = self.rgb

    def start_coverage(self) -> None:
        """Forget what has been covered so far."""
        self.coverage = np.zeros((self.height, self.width), np.uint8)

    def noise(self, kind: str, zoom: float = 1.0, size: tuple[int, int] | None = None) -> Array:
        """Noise of mean 0, variance about 1, over the whole canvas or of `size` (height, width); `zoom` makes its features larger."""
        height, width = size or (self.height, self.width)
        rows, columns = (min(512, max(2, round(side / (zoom * self.zoom)))) for side in (height, width))
        top, left = self.rng.integers(0, 512, 2)
        crop = _noise_bank(kind)[top : top + rows, left : left + columns]
        if (rows, columns) == (height, width):
            return crop
        return np.asarray(Image.fromarray(crop).resize((width, height), Image.Resampling.BICUBIC))

    def axes(self) -> tuple[Array, Array]:
        """Coordinates x (1, width) and y (height, 1) in [0, 1]."""
        x = (np.arange(self.width, dtype=np.float32) + 0.5) / self.width
        y = (np.arange(self.height, dtype=np.float32) + 0.5) / self.height
        return x[None, :], y[:, None]

    def draw(
        self,
        outlines: Sequence[Outline],
        colour: Colour | None,
        finish: Finish,
        stroke: float = 0.0,
        covers: bool = True,
    ) -> None:
        """Fill polygons as one shape, or draw round-ended lines of `stroke` pixels through the points when `stroke` > 0."""
        paths = [np.asarray(outline, np.float64) for outline in outlines]
        points = np.concatenate(paths)
        low, high = points.min(0) - stroke / 2, points.max(0) + stroke / 2
        side = max(2.0, stroke if stroke else float(min(np.ptp(paths[0], axis=0))))
        radius = min(max(1.0, side * max(finish.bevel, finish.blur)), 40 * self.zoom)
        pad = int(2 * radius) + 2
        left, top = (int(np.floor(value)) - pad for value in low)
        right, bottom = (int(np.ceil(value)) + pad for value in high)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, self.width), min(bottom, self.height)
        if x1 <= x0 or y1 <= y0:
            return
        shape = _shape_image([path - (left, top) for path in paths], (right - left, bottom - top), stroke)
        if finish.blur:
            shape = shape.filter(ImageFilter.GaussianBlur(float(side * finish.blur)))
        window = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        shape_u8 = np.asarray(shape)[window]
        weight = shape_u8.astype(np.float32) * np.float32(finish.opacity / 255)
        if self.clip is not None:
            weight = weight * self.clip[y0:y1, x0:x1]
        region, kept = self.rgb[:, y0:y1, x0:x1], self.kept[:, y0:y1, x0:x1]
        paint = kept if colour is None else self._surface(shape, window, radius, colour, finish)
        region += (paint - region) * weight
        if covers:
            covered = shape_u8 if self.clip is None else (shape_u8 * self.clip[y0:y1, x0:x1]).astype(np.uint8)
            np.maximum(self.coverage[y0:y1, x0:x1], covered, out=self.coverage[y0:y1, x0:x1])

    def _surface(
        self, shape: Image.Image, window: tuple[slice, slice], radius: float, colour: Colour, finish: Finish
    ) -> Array:
        """The lit colour of a shape's pixels: bevel shading from the blurred outline, highlight, surface noise."""
        base = plane(colour)
        if not (finish.relief or finish.gloss or finish.noise):
            return base
        soft = np.asarray(shape.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255
        step = max(1, int(radius / 2))  # wider than a pixel, because the blurred outline has 256 levels only
        slope_x, slope_y = np.zeros_like(soft), np.zeros_like(soft)
        slope_x[:, step:-step] = soft[:, 2 * step :] - soft[:, : -2 * step]
        slope_y[step:-step] = soft[2 * step :] - soft[: -2 * step]
        x, y = (np.float32(-direction * radius * 1.2 / step) for direction in self.light)
        facing = x * slope_x[window] + y * slope_y[window]
        shade = np.float32(1 - 0.5 * finish.relief) + np.float32(finish.relief) * (facing + 0.5 * soft[window])
        if finish.noise:
            shade = shade + finish.noise_strength * self.noise(finish.noise, 1.0, shade.shape)
        lit = base * shade
        if finish.gloss:
            lit += np.float32(finish.gloss) * np.clip(facing * 1.6 - 0.35, 0, 1) ** 2
        return lit

    def shadow(self, outline: Outline, blur: float, strength: float) -> None:
        """Darken softly under a polygon given in canvas pixels; `blur` is the Gaussian radius in pixels."""
        side = max(2.0, float(min(np.ptp(np.asarray(outline, np.float64), axis=0))))
        finish = Finish(relief=0.0, opacity=strength, blur=max(blur, 0.5) / side)
        self.draw([outline], (0.03, 0.03, 0.05), finish, covers=False)

    def covered(self) -> NDArray[np.bool_]:
        """The covered pixels at final resolution, (height, width) bool."""
        return np.asarray(Image.fromarray(self.coverage).reduce(SUPERSAMPLING)) >= 128

    def photograph(self, *, noise_level: float = 0.012, exposure: float = 1.0, vignette: float = 0.15) -> Image.Image:
        """The picture at final resolution as a camera would return it: vignette, exposure, sensor noise, 8 bits."""
        x, y = self.axes()
        falloff = exposure * (1 - vignette * 2 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))
        planes = self.rgb * (falloff * 255)
        np.clip(planes, 0, 255, out=planes)
        picture = Image.merge("RGB", [Image.fromarray(channel) for channel in planes.astype(np.uint8)])
        pixels = np.asarray(picture.reduce(SUPERSAMPLING), np.float32)
        sensor = self.rng.standard_normal(pixels.shape, np.float32) * np.float32(noise_level * 255)
        return Image.fromarray(np.clip(pixels + sensor + 0.5, 0, 255).astype(np.uint8))


def _shape_image(paths: list[NDArray[np.float64]], size: tuple[int, int], stroke: float) -> Image.Image:
    shape = Image.new("L", size)
    pencil, half = ImageDraw.Draw(shape), stroke / 2
    for path in paths:
        xy = [(float(x), float(y)) for x, y in path]
        if not stroke:
            pencil.polygon(xy, fill=255)
            continue
        pencil.line(xy, fill=255, width=max(1, round(stroke)), joint="curve")
        if stroke > 2:
            for x, y in (xy[0], xy[-1]):
                pencil.ellipse((x - half, y - half, x + half, y + half), fill=255)
    return shape


@dataclass(frozen=True)
class Pen:
    """Draws on a canvas in the coordinates of an object's own box: (0, 0) top left, (1, 1) bottom right; sizes in canvas pixels."""

    canvas: Canvas
    centre: Point
    size: tuple[float, float]
    angle: float = 0.0
    flip: bool = False

    @classmethod
    def whole(cls, canvas: Canvas) -> "Pen":
        """Return a pen whose box is the canvas."""
        return cls(canvas, (canvas.width / 2, canvas.height / 2), (canvas.width, canvas.height))

    @property
    def rng(self) -> Rng:
        """The canvas's generator of random numbers."""
        return self.canvas.rng

    def place(self, points: Outline) -> NDArray[np.float64]:
        """Box coordinates (n, 2) to canvas pixels (n, 2)."""
        turn = np.array([[np.cos(self.angle), np.sin(self.angle)], [-np.sin(self.angle), np.cos(self.angle)]])
        sign = np.array([-1.0 if self.flip else 1.0, 1.0])
        return ((np.asarray(points, np.float64) - 0.5) * sign * np.asarray(self.size)) @ turn + np.asarray(self.centre)

    def draw(self, outlines: Sequence[Outline], colour: Colour | None, finish: Finish, width: float = 0.0) -> None:
        """Fill several polygons as one shape, or draw lines of a `width` with round ends."""
        stroke = max(1.0, width * float(min(self.size))) if width else 0.0
        self.canvas.draw([self.place(points) for points in outlines], colour, finish, stroke=stroke)

    def shadow(self, points: Outline, strength: float) -> None:
        """Cast the shadow of a polygon, away from the light."""
        outline = self.place(points)
        depth = 0.06 * float(np.sqrt(min(np.ptp(outline, axis=0)) * min(self.size)))
        self.canvas.shadow(outline - np.asarray(self.canvas.light) * depth, depth, strength)


def box(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    """Outline of a rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def oval(x: float, y: float, radius_x: float, radius_y: float, corners: int = 28) -> list[Point]:
    """Outline of an axis-aligned ellipse."""
    turns = np.arange(corners) * (2 * np.pi / corners)
    return [(x + radius_x * float(np.cos(turn)), y + radius_y * float(np.sin(turn))) for turn in turns]


def wobbly(rng: Rng, x: float, y: float, radius: float, roughness: float, corners: int = 18) -> list[Point]:
    """Outline of an irregular blob around (x, y)."""
    turns = np.arange(corners) * (2 * np.pi / corners)
    waves = sum(rng.normal(0, 1 / order) * np.cos(order * turns + rng.uniform(0, 6.3)) for order in (1, 2, 3, 5))
    radii = radius * (1 + roughness * np.clip(waves, -1.4, 1.4) / 2)
    return list(zip((x + radii * np.cos(turns)).tolist(), (y + radii * np.sin(turns)).tolist(), strict=True))


def rounded(points: Sequence[Point], rounds: int = 2) -> list[Point]:
    """A closed outline with its corners cut (Chaikin's scheme)."""
    outline = np.asarray(points, np.float64)
    for _ in range(rounds):
        following = np.roll(outline, -1, axis=0)
        outline = np.stack([0.75 * outline + 0.25 * following, 0.25 * outline + 0.75 * following], 1).reshape(-1, 2)
    return [(float(x), float(y)) for x, y in outline]


def wandering(rng: Rng, start: Point, angle: float, length: float, bend: float, steps: int = 8) -> list[Point]:
    """A line from `start` in direction `angle` whose heading drifts by `bend` radians a step: cracks, scratches."""
    headings = angle + np.cumsum(rng.normal(0, bend, steps))
    path = np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1) * (length / steps), axis=0)
    return [start, *((start[0] + float(x), start[1] + float(y)) for x, y in path)]
