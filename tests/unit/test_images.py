"""Images and masks are hostile until decoded."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import refusal, save_image, save_mask
from pictures import chunk
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from invad.config import ReadingConfig
from invad.data.decoders import MOST_SCANS, count_scans
from invad.data.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    TooManyPixelsError,
    check_mask_size,
    checked_image,
    image_of_bytes,
    image_size,
    is_rotated,
    read_image,
    read_mask,
)
from invad.errors import InputError

ORIENTATION = Base.Orientation


def photograph(width: int = 64, height: int = 48) -> Image.Image:
    """Smooth colours with some noise: no two rows are alike."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] + rng.integers(0, 60, (height, width, 3))
    return Image.fromarray(ramp.astype(np.uint8))


def png_bytes(
    width: int, height: int, depth: int, colour: int, rows: bytes, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG made by hand; `before` and `after` are chunks around the image data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND")


def refused(path: Path, read=read_image) -> str:
    """The message, without the folder, with which `path` is refused; Pillow must not print a warning about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return refusal(read, path)


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
    assert refused(tmp_path / "text.png").startswith("not an image (PNG, JPEG, BMP, TIFF or WebP)")
    assert refused(tmp_path / "none.png") == "no such image"
    (tmp_path / "empty.png").touch()
    assert refused(tmp_path / "empty.png") == "not an image (PNG, JPEG, BMP, TIFF or WebP), or a damaged one"
    (tmp_path / "folder.png").mkdir()
    assert refused(tmp_path / "folder.png") == "not an image, not even a file"
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "symbolic links" in refused(tmp_path / "loop.png")


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert refused(tmp_path / "pipe.png") == "not an image, not even a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_named(tmp_path):
    path = save_image(tmp_path / "locked.png")
    path.chmod(0)
    assert refused(path) == "cannot be read as an image (Permission denied)"


def test_a_failure_to_open_is_named_without_its_path_twice(tmp_path, monkeypatch):
    def deny(path, formats):
        raise PermissionError(13, "Permission denied", str(path))

    path = save_image(tmp_path / "locked.png")
    monkeypatch.setattr(Image, "open", deny)
    assert refused(path) == "cannot be read as an image (Permission denied)"


def test_other_formats_are_refused_whatever_the_suffix_says(tmp_path):
    photograph().save(tmp_path / "animation.png", "GIF")
    assert refused(tmp_path / "animation.png").startswith("not an image (PNG, JPEG, BMP, TIFF or WebP)")
    (tmp_path / "program.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )  # Ghostscript would run it
    assert refused(tmp_path / "program.jpg").startswith("not an image (PNG, JPEG, BMP, TIFF or WebP)")


def test_a_suffix_of_another_accepted_format_is_no_obstacle(tmp_path):
    photograph().save(tmp_path / "photo.png", "BMP")
    assert np.array_equal(read_image(tmp_path / "photo.png"), np.asarray(photograph()))


def test_webp_is_read_as_image_and_as_mask(tmp_path):
    assert {".webp", ".jfif"} <= IMAGE_SUFFIXES
    photograph().save(tmp_path / "a.webp", lossless=True)
    assert np.array_equal(read_image(tmp_path / "a.webp"), np.asarray(photograph()))
    transparent = photograph().convert("RGBA")
    transparent.putalpha(0)
    transparent.save(tmp_path / "b.webp", lossless=True, exact=True)
    assert np.array_equal(read_image(tmp_path / "b.webp"), np.asarray(photograph()))  # alpha is dropped
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 3:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.webp", lossless=True)
    assert np.array_equal(read_mask(tmp_path / "mask.webp"), mask > 0)
    whole = (tmp_path / "a.webp").read_bytes()
    (tmp_path / "a.webp").write_bytes(whole[: len(whole) // 2])
    assert "a.webp" not in refused(tmp_path / "a.webp")


def test_sixteen_bit_grey_is_scaled_where_it_is_said_what_is_white(tmp_path):
    values = np.array([[0, 1, 8], [2048, 4095, 60_000]], np.uint16)
    expected = {4095: [[0, 0, 0], [128, 255, 255]], 65535: [[0, 0, 0], [8, 16, 233]]}
    for name, stored in (("a.png", values), ("a.tif", values), ("b.tif", values.astype(">u2"))):
        Image.fromarray(stored).save(tmp_path / name)
        assert "or say in its `splits` section what is white: grey16_white" in refused(tmp_path / name)
        for white, grey in expected.items():
            reading = ReadingConfig(grey16_white=white)
            pixels = read_image(tmp_path / name, reading=reading)
            assert np.array_equal(pixels, np.repeat(np.array(grey, np.uint8)[..., None], 3, axis=2))
            data = (tmp_path / name).read_bytes()
            assert np.array_equal(np.asarray(image_of_bytes(data, name, reading=reading)), pixels)
    save_image(tmp_path / "plain.png")  # images of 8 bits are what they were
    assert np.array_equal(read_image(tmp_path / "plain.png", reading=reading), read_image(tmp_path / "plain.png"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_exif_says_where_that_is_asked_for(tmp_path, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photograph().save(path, exif=exif)
    turned, plain = ReadingConfig(exif_rotation=True), read_image(path)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(read_image(path, reading=turned), expected)
    assert image_size(path, turned) == expected.shape[1::-1]
    if suffix != "tif":  # Pillow always turns these
        assert image_size(path) == plain.shape[1::-1] == photograph().size


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_several_frames_or_pages_are_refused(tmp_path, suffix):
    path = tmp_path / f"frames.{suffix}"
    photograph().save(path, save_all=True, append_images=[photograph().rotate(180)])
    assert refused(path) == "has several frames or pages; save the one that counts as a file of its own"
    assert refused(path, image_size).startswith("has several frames")


def test_of_a_photograph_with_a_second_picture_behind_it_the_first_counts(tmp_path):
    second = photograph().rotate(180)
    photograph().save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    photograph().save(tmp_path / "plain.jpg")
    assert np.array_equal(read_image(tmp_path / "phone.jpg"), read_image(tmp_path / "plain.jpg"))


def test_sixteen_bits_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert refused(tmp_path / "deep.png").startswith("has the pixel format I;16; convert it to 8 bits a channel")


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_colours_are_refused_rather_than_cut_to_eight(tmp_path, colour, channels):
    # 9 of 65,535 in every channel: the upper 8 bits, all that Pillow would keep, are 0.
    (tmp_path / "deep.png").write_bytes(png_bytes(2, 2, 16, colour, (b"\0" + b"\0\x09" * channels * 2) * 2))
    for read in (image_size, read_image, read_mask):
        assert refused(tmp_path / "deep.png", read) == (
            "has colours of 16 bits a channel; convert it to 8 bits a channel"
        )


def test_sixteen_bit_colours_of_a_tiff_are_refused(tmp_path):
    path = tmp_path / "deep.tif"
    entries = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 32), (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3)]
    entries += [(278, 3, 1, 2), (279, 4, 1, 24)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    pixels, bits = bytes(24), struct.pack("<3H", 16, 16, 16)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 38) + pixels + bits + directory + bytes(4))
    assert refused(path) == "has colours of 16 bits a channel; convert it to 8 bits a channel"


@pytest.mark.parametrize("side", [9_000, 11_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    """81, 121 and 3,600 million pixels: above the limit here, where Pillow warns, and where Pillow refuses."""
    (tmp_path / "bomb.png").write_bytes(png_bytes(side, side, 8, 0, b""))
    assert "pixels" in refused(tmp_path / "bomb.png")
    assert "pixels" in refused(tmp_path / "bomb.png", image_size)
    with pytest.raises(TooManyPixelsError):
        image_of_bytes((tmp_path / "bomb.png").read_bytes(), "bomb")


def test_an_image_just_below_the_limit_passes_without_a_warning(tmp_path):
    (tmp_path / "large.png").write_bytes(png_bytes(8_000, 10_000, 8, 0, b""))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(tmp_path / "large.png") == (8_000, 10_000)
    assert MAX_PIXELS == 8_000 * 10_000


def jpeg(image: Image.Image | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    (image or photograph()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def of_scans(scans: int, **options) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = jpeg(progressive=True, **options)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - count_scans(data)) + data[-2:]


def test_scans_are_counted_and_nothing_that_looks_like_one():
    assert count_scans(jpeg()) == 1
    assert count_scans(jpeg(progressive=True)) == 10
    assert count_scans(jpeg(photograph().convert("CMYK"), progressive=True)) == 18
    preview = b"Exif" + of_scans(30)
    assert count_scans(jpeg(exif=preview, comment=b"\xff\xda" * 50, restart_marker_blocks=1)) == 1
    assert count_scans(jpeg() + of_scans(30)) == 1  # a second picture behind the first
    for most in (5, 40):
        assert count_scans(of_scans(1500), most) == most + 1
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xda", b"\xff\xd8" + b"\xff" * 100, b"\xff\xd8\xff\xda\xff"):
        assert count_scans(data) <= 1


@pytest.mark.parametrize("scans", [MOST_SCANS + 1, 1500])
def test_a_jpeg_that_paints_itself_over_is_refused(tmp_path, scans):
    path = tmp_path / "slow.jpg"
    path.write_bytes(of_scans(scans))
    message = "a JPEG of more than 40 scans; save it anew"
    assert refused(path) == message
    with pytest.raises(InputError, match=message):
        image_of_bytes(path.read_bytes(), "image")
    with Image.open(path) as image, pytest.raises(InputError, match=message):
        checked_image(image)
    path.write_bytes(of_scans(MOST_SCANS))
    assert read_image(path).shape == (48, 64, 3)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_a_damaged_tiff_is_refused(tmp_path, compression):
    path = tmp_path / "image.tif"
    photograph().save(path, compression=compression)
    data = path.read_bytes()
    path.write_bytes(data[:1000] + b"\xff\xc4" * 250 + data[1500:])
    assert refused(path).startswith("damaged image (")
    with pytest.raises(InputError, match="image: damaged image"):
        image_of_bytes(path.read_bytes(), "image")


@pytest.mark.parametrize("compression", ["group3", "group4", "jpeg"])
def test_a_tiff_in_which_damage_is_not_seen_is_refused(tmp_path, compression):
    path = tmp_path / "image.tif"
    photograph().convert("RGB" if compression == "jpeg" else "1").save(path, compression=compression)
    message = f"a TIFF compressed as {compression}; save it anew, as PNG or by LZW or deflate"
    assert refused(path) == refused(path, read_mask) == message
    with Image.open(path) as image, pytest.raises(InputError, match=message):
        checked_image(image)


def bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + sizes + bytes(1024) + runs


def test_a_bmp_that_python_would_decode_is_refused(tmp_path):
    path = tmp_path / "runs.bmp"
    path.write_bytes(bmp_of_runs(100, 100, (b"\1\5" * 100 + b"\0\0") * 100 + b"\0\1"))
    assert refused(path) == "a BMP in run lengths, which decode for long; save it anew, as PNG"


def tiff_of_strips(strips: int, order: str, magic: int) -> bytes:
    """A TIFF of one column and a strip for each row; magic 43 is BigTIFF."""
    head, entry, number = ("HHQ", "HHQQ", "Q") if magic == 43 else ("I", "HHII", "H")
    start = struct.pack(
        order + "2sH" + head, b"II" if order == "<" else b"MM", magic, *((8, 0, 16) if magic == 43 else (8,))
    )
    tags = [(256, 4, 1, 1), (257, 4, 1, strips), (258, 4, 1, 8), (262, 4, 1, 1), (278, 4, 1, 1)]
    after = len(start) + struct.calcsize(order + number) + 7 * struct.calcsize(order + entry) + 8
    tags += [(273, 4, strips, after), (279, 4, strips, after + 4 * strips)]
    directory = struct.pack(order + number, 7) + b"".join(struct.pack(order + entry, *tag) for tag in sorted(tags))
    return start + directory + bytes(8) + struct.pack(order + "I", 8) * strips + struct.pack(order + "I", 1) * strips


PIECES = {
    "little TIFF": (tiff_of_strips(200_000, "<", 42), "has more than 100000 strips or tiles"),
    "big TIFF": (tiff_of_strips(200_000, ">", 43), "has more than 100000 strips or tiles"),
    "TIFF": (tiff_of_strips(120_000, "<", 42), "has more than 100000 strips or tiles"),
    "JPEG": (b"\xff\xd8" + b"\xff\xe5\0\2" * 200_000 + jpeg()[2:], "has more than 100000 segments or chunks"),
    "stray": (b"\xff\xd8" + bytes(110_000) + jpeg()[2:], "has more than 100000 segments or chunks"),
    "fill": (b"\xff\xd8" + b"\xff" * 110_000 + jpeg()[2:], "has more than 100000 segments or chunks"),
    "PNG": (
        png_bytes(2, 2, 8, 0, b"\0\1\1" * 2, after=chunk(b"tIME", b"") * 110_000),
        "has more than 100000 segments or chunks",
    ),
}


@pytest.mark.parametrize("name", PIECES)
def test_a_file_in_too_many_pieces_is_refused(tmp_path, name):
    data, message = PIECES[name]
    (tmp_path / "pieces").write_bytes(data)
    for read in (read_image, image_size):
        assert refused(tmp_path / "pieces", read) == f"{message}; save it anew"
    with pytest.raises(InputError, match=message):
        image_of_bytes(data, "image")


@pytest.mark.parametrize(("order", "magic"), [("<", 42), (">", 42), ("<", 43)])
def test_a_file_in_many_pieces_is_read(tmp_path, order, magic):
    (tmp_path / "strips.tif").write_bytes(tiff_of_strips(2_000, order, magic))
    assert read_image(tmp_path / "strips.tif").shape == (2_000, 1, 3)
    many = b"\xff\xe5\0\2" * 1_000
    (tmp_path / "many.jpg").write_bytes(b"\xff\xd8" + many + bytes(1_000) + jpeg()[2:])
    assert read_image(tmp_path / "many.jpg").shape == (48, 64, 3)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_decompression_bomb_in_a_text_chunk_is_refused(tmp_path, where):
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(4_000_000)))
    (tmp_path / "bomb.png").write_bytes(png_bytes(2, 2, 8, 0, b"\0\1\1" * 2, **{where: bomb}))
    assert "too large" in refused(tmp_path / "bomb.png")


def test_an_image_without_pixels_is_refused(tmp_path):
    (tmp_path / "none.png").write_bytes(png_bytes(0, 5, 8, 0, b""))
    assert refused(tmp_path / "none.png").startswith("not an image")


def test_a_truncated_jpeg_and_one_with_garbage_are_refused(tmp_path):
    path = tmp_path / "photo.jpg"
    photograph(256, 256).save(path, quality=95)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(path).startswith("damaged image (image file is truncated")
    garbage = np.random.default_rng(0).bytes(4096)
    path.write_bytes(whole[:8_000] + garbage + whole[8_000 + len(garbage) :])
    assert refused(path).startswith("damaged image (")


def test_changed_bytes_of_a_png_are_found_by_its_checksum_where_they_decode(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.zeros((8, 8), np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)
    content = bytearray(path.read_bytes())
    position = content.index(b"IDAT") + 4 + 2 + 5 + 20  # zlib header, header of the stored block, some pixels
    content[position] = 99
    path.write_bytes(content)
    assert "checksum" in refused(path)
    assert "checksum" in refused(path, read_mask)


def test_a_palette_with_transparency_keeps_its_colours_and_warns_of_nothing(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "palette.png").tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_a_cmyk_jpeg_has_the_colours_it_shows(tmp_path):
    Image.new("RGB", (16, 16), (250, 40, 40)).convert("CMYK").save(tmp_path / "print.jpg")
    red, green, blue = read_image(tmp_path / "print.jpg").mean(axis=(0, 1))
    assert abs(red - 250) < 8
    assert abs(green - 40) < 8
    assert abs(blue - 40) < 8


def test_an_exif_rotation_is_seen_and_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show
    photograph().save(tmp_path / "turned.jpg", exif=exif)
    photograph().save(tmp_path / "plain.jpg")
    assert image_size(tmp_path / "turned.jpg") == (64, 48)
    assert np.array_equal(read_image(tmp_path / "turned.jpg"), read_image(tmp_path / "plain.jpg"))
    with Image.open(tmp_path / "turned.jpg") as turned, Image.open(tmp_path / "plain.jpg") as plain:
        assert is_rotated(turned)
        assert not is_rotated(plain)


def test_the_rotation_of_a_tiff_is_applied_in_its_size_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph().save(tmp_path / "turned.tif", exif=exif)
    assert image_size(tmp_path / "turned.tif") == (48, 64)
    assert read_image(tmp_path / "turned.tif").shape == (64, 48, 3)


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


def test_of_a_palette_mask_the_indices_count_and_not_the_colours(tmp_path):
    mask = Image.new("P", (3, 1))
    mask.putpalette([255, 255, 255, 0, 0, 0, 255, 0, 0])  # index 0 white, 1 black, 2 red
    mask.putdata([0, 1, 2])
    mask.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[False, True, True]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_the_alpha_channel_of_a_mask_does_not_count(tmp_path, mode):
    colour, opaque = Image.new(mode[:-1], (2, 1)), Image.new("L", (2, 1), 255)
    colour.putpixel((1, 0), 3 if mode == "LA" else (0, 3, 0))
    colour.putalpha(opaque)
    colour.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as stored:
        assert stored.mode == mode
    assert read_mask(tmp_path / "mask.png").tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        (np.array([[0, 1], [0, 65_535]], np.uint16), "png"),
        (np.array([[0, 1], [0, 65_535]], np.uint16), "tif"),
        (np.array([[0, 1], [-1, 65_536]], np.int32), "tif"),
        (np.array([[0, 0.001], [np.nan, 1]], np.float32), "tif"),
        (np.array([[False, True], [False, True]]), "png"),
    ],
)
def test_masks_of_any_depth_are_anomalous_above_zero(tmp_path, values, suffix):
    path = tmp_path / f"mask.{suffix}"
    Image.fromarray(values).save(path)
    assert read_mask(path).tolist() == [[False, True], [False, True]]


def test_a_big_endian_sixteen_bit_mask_is_read(tmp_path):
    Image.frombytes("I;16B", (2, 1), b"\0\0\0\1").save(tmp_path / "mask.tif")
    assert read_mask(tmp_path / "mask.tif").tolist() == [[False, True]]


def test_a_mask_of_inks_is_refused_because_zero_is_white(tmp_path):
    Image.new("CMYK", (4, 4)).save(tmp_path / "mask.jpg")
    assert refused(tmp_path / "mask.jpg", read_mask).startswith("has the pixel format CMYK")


def test_a_mask_of_another_size_than_its_image_is_named_with_both_sizes(tmp_path):
    image, mask = save_image(tmp_path / "image.png", size=8), save_mask(tmp_path / "mask.png", size=9)
    check_mask_size(mask, image, (9, 9))
    with pytest.raises(InputError) as caught:
        check_mask_size(mask, image, (8, 8))
    assert str(caught.value) == f"{mask}: has 9x9 pixels, but its image {image} has 8x8"
