"""Images and masks are hostile until decoded."""

import struct
import zlib

import numpy as np
import pytest
from conftest import save_image
from PIL import Image

from invad.datasets.images import image_size, read_image, read_mask
from invad.errors import InputError


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_every_eight_bit_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / f"image.{'tif' if mode == 'CMYK' else 'png'}"
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    assert image.min() >= 250


def test_an_image_is_resized_bilinearly_without_its_aspect_ratio(tmp_path):
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[:, 2:] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", 2)
    # Halving the width averages with a triangle two source pixels wide: by hand 3/8, 3/8, 1/8, 1/8 of 0, 0, 200, 200,
    # without the part outside the image (weights 3, 3, 1 of 7).
    assert image.shape == (2, 2, 3)
    assert image[0, :, 0].tolist() == [round(200 / 7), round(200 * 6 / 7)]


def test_a_truncated_image_is_named(tmp_path):
    path = save_image(tmp_path / "cut.png", size=64)
    path.write_bytes(path.read_bytes()[:60])
    assert image_size(path) == (64, 64)  # the header is whole
    with pytest.raises(InputError, match=r"cut\.png: damaged image"):
        read_image(path)


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(InputError, match=r"text\.png: not an image"):
        read_image(tmp_path / "text.png")
    with pytest.raises(InputError, match=r"none\.png: no such image"):
        read_image(tmp_path / "none.png")


def test_sixteen_bits_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png: has the pixel format I;16"):
        read_image(tmp_path / "deep.png")


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b""))
    with pytest.raises(InputError, match=r"bomb\.png: "):
        read_image(tmp_path / "bomb.png")


def test_any_value_above_zero_is_anomalous(tmp_path):
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[False, True], [True, True]]


def test_a_resized_mask_is_anomalous_above_one_half_and_loses_small_objects(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 1  # half of the image, by small integers as in VisA
    Image.fromarray(mask).save(tmp_path / "half.png")
    assert read_mask(tmp_path / "half.png", 8).tolist() == [[True] * 8] * 4 + [[False] * 8] * 4
    mask[:] = 0
    mask[3, 3] = 255
    Image.fromarray(mask).save(tmp_path / "speck.png")
    assert read_mask(tmp_path / "speck.png").sum() == 1
    assert not read_mask(tmp_path / "speck.png", 8).any()
