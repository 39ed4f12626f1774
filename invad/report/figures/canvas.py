"""Sheets of pictures drawn with Pillow: letters, wrapped text, and files that are the same bytes every time."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from invad.files import atomic_path

INK = (27, 31, 36)
MUTED = (87, 96, 106)
RULE = (208, 215, 222)
PDF_SCALE = 2  # letters in print are sharper than on a screen
PDF_DPI = 240
PDF_QUALITY = 92
PAGE_SHAPE = 1.42  # height by width of a page, about that of A4
_ROUNDED = [
    min(255, (value + 2) // 4 * 4) for value in range(256)
]  # 64 levels: not visible, and the file a third smaller


class Canvas:
    """A white sheet whose places are given in units of `scale` pixels, so that the same sheet can be drawn finer for print."""

    def __init__(self, width: int, height: int, scale: int = 1) -> None:
        self.scale = scale
        self.image = Image.new("RGB", (width * scale, height * scale), "white")
        self._draw = ImageDraw.Draw(self.image)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: int,
        bold: bool = False,
        colour: tuple[int, ...] = INK,
        anchor: str = "la",
    ) -> None:
        """One line of text; (x, y) is its upper left corner, or what Pillow's `anchor` says."""
        place = (x * self.scale, y * self.scale)
        self._draw.text(place, words, fill=colour, font=font(size * self.scale, bold), anchor=anchor)

    def lines(
        self, x: float, y: float, words: str, width: float, size: int, bold: bool = False, colour: tuple[int, ...] = INK
    ) -> float:
        """Text broken to `width`; the y below it."""
        for line in wrap(words, font(size, bold), width):
            self.text(x, y, line, size, bold, colour)
            y += size + 5
        return y

    def rule(self, left: float, right: float, y: float, colour: tuple[int, ...] = RULE) -> None:
        """A thin horizontal line."""
        ends = [round(value * self.scale) for value in (left, y, right, y)]
        self._draw.line(ends, fill=colour, width=self.scale)

    def box(self, x: float, y: float, width: float, height: float, words: str) -> None:
        """A grey box that says what is not there."""
        s = self.scale
        self._draw.rectangle((x * s, y * s, (x + width) * s - 1, (y + height) * s - 1), fill=(234, 238, 242))
        lines = wrap(words, font(12), width - 16)
        for index, line in enumerate(lines):
            middle = y + height / 2 + 17 * (index - (len(lines) - 1) / 2)
            self.text(x + width / 2, middle, line, 12, colour=MUTED, anchor="mm")

    def paste(self, picture: Image.Image, x: float, y: float) -> None:
        """A picture at its own size, in pixels of the sheet."""
        self.image.paste(picture, (round(x * self.scale), round(y * self.scale)))


def save_png(canvas: Canvas, path: Path) -> None:
    """Write the sheet as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        canvas.image.point(_ROUNDED * 3).save(temporary, format="PNG")


def save_pdf(pages: Sequence[Canvas], path: Path, title: str) -> None:
    """Write sheets as the pages of a PDF without dates, whole or not at all."""
    first, *rest = (page.image for page in pages)
    buffer = io.BytesIO()
    first.save(
        buffer, format="PDF", save_all=True, append_images=rest, resolution=PDF_DPI, quality=PDF_QUALITY, title=title,
        creationDate=None, modDate=None,
    )  # fmt: skip
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def pages_of(heights: Sequence[int], head: int, width: int) -> list[slice]:
    """How blocks of these heights go on pages below a head of that height: as many as fit, at least one."""
    room, start, used, pages = width * PAGE_SHAPE - head, 0, 0, []
    for index, height in enumerate(heights):
        if index > start and used + height > room:
            pages.append(slice(start, index))
            start, used = index, 0
        used += height
    return [*pages, slice(start, len(heights))]


def wrap(text: str, letters: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines no wider than `width` pixels, broken after spaces, slashes, hyphens and underscores where there are any."""
    lines = [""]
    for character in text:
        if letters.getlength((lines[-1] + character).rstrip()) > width:
            at = max(lines[-1].rfind(mark) for mark in " /-_") + 1
            head, tail = (lines[-1][:at], lines[-1][at:]) if at else (lines[-1], "")
            lines[-1:] = [head, tail]
        lines[-1] += character
    return [line.strip() for line in lines]


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
