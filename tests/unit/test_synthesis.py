"""Synthetic anomalies: masks, where textures come from, and what changes them."""

import colorsys
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab
from toys import image_split

from invad.data.images import read_image
from invad.errors import InputError
from invad.features import decoded, texture_operations
from invad.features.decoded import DecodedImages
from invad.features.synthesis import Corruption, Textures, corrupted, drawn_mask, shuffled_tiles

SIZE = 64


def test_masks_are_of_the_published_areas():
    areas = np.array(
        [drawn_mask((256, 256), (0.0, 1.0), np.random.default_rng([0, seed])).mean() for seed in range(300)]
    )
    assert 0.02 < np.mean(areas == 0) < 0.08  # published: 4.7 %, mean 4.9 %, median 4.6 %, 1 % above 15 %
    assert 0.044 < areas.mean() < 0.054
    assert np.mean(areas > 0.15) < 0.04


def test_a_mask_of_another_area_than_is_accepted_is_drawn_again():
    few = [drawn_mask((SIZE, SIZE), (0.002, 0.05), np.random.default_rng([0, seed])).mean() for seed in range(100)]
    assert 0.002 <= min(few) <= max(few) <= 0.05
    drawn_mask((SIZE, SIZE), (0.99, 1.0), np.random.default_rng(0))  # which no noise has: it ends all the same


def test_half_of_the_images_stay_clean_by_default():
    textures = Textures([np.full((64, 64, 3), 255, np.uint8)] * 2, np.array([0, 1]), np.arange(2))
    image = np.zeros((64, 64, 3), np.uint8)
    masks = [corrupted(image, textures, 0, Corruption(), np.random.default_rng([7, seed]))[2] for seed in range(800)]
    share = np.mean([mask.any() for mask in masks])
    assert 0.42 < share < 0.54  # of the half, a twentieth has an empty mask
    area = np.mean([mask.mean() for mask in masks if mask.any()])
    assert 0.03 < area < 0.08


def test_textures_come_from_other_classes_or_are_a_part_enlarged():
    plain = Corruption(operations=0)
    pictures = [np.full((64, 64, 3), value, np.uint8) for value in (10, 20, 30, 40)]
    textures = Textures(pictures, np.array([0, 1, 1, 1]), np.arange(3))  # the fourth is not kept
    rng = np.random.default_rng(0)
    assert {int(textures.draw(0, plain, rng)[0, 0, 0]) for _ in range(40)} == {20, 30}
    assert {int(textures.draw(1, plain, rng)[0, 0, 0]) for _ in range(40)} == {10}
    gradient = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None], 64, axis=1).repeat(3, axis=2)
    alone = Textures([gradient], np.array([0]), np.arange(1))
    part = alone.draw(0, plain, rng)
    assert part.shape == gradient.shape
    assert int(part.max()) - int(part.min()) <= 64 // 3


def test_a_folder_of_textures_has_to_have_some(tmp_path):
    with pytest.raises(InputError, match="has no images for textures"):
        Textures.of(Corruption(textures=str(tmp_path)), DecodedImages([], SIZE), [], SIZE)


def test_every_operation_keeps_shape_and_type_and_changes_something():
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (48, 40, 3), np.uint8)
    for operation in texture_operations.OPERATIONS:
        results = [np.asarray(operation(Image.fromarray(texture), np.random.default_rng(seed))) for seed in range(8)]
        assert all(result.shape == texture.shape and result.dtype == np.uint8 for result in results)
        assert any(not np.array_equal(result, texture) for result in results)


def test_shuffled_tiles_are_those_of_the_image_in_other_colours():
    image = np.arange(SIZE**2, dtype=np.uint8).reshape(SIZE, SIZE, 1).repeat(3, axis=2)
    image[..., 1:] = (50, 200)
    results = [shuffled_tiles(image, np.random.default_rng(seed)) for seed in range(12)]
    assert all(result.shape == image.shape and result.dtype == np.uint8 for result in results)
    plain = [sum(len(np.unique(result[..., band])) == 1 for band in range(3)) for result in results]
    assert plain == [2] * 12  # a plain channel stays plain, wherever it goes
    assert len({np.flatnonzero(np.ptp(result, axis=(0, 1)))[0] for result in results}) > 1


def test_shuffled_textures_come_from_any_class():
    pictures = [np.full((SIZE, SIZE, 3), value, np.uint8) for value in (0, 255)]
    textures = Textures(pictures, np.array([0, 1]), np.arange(2))
    recipe, rng = Corruption(operations=0, shuffled=True), np.random.default_rng(0)
    bright = [textures.draw(0, recipe, rng).mean() > 100 for _ in range(20)]
    assert 0 < sum(bright) < 20


def test_brightness_is_scaled_in_the_colour_space_that_is_drawn():
    rng = np.random.default_rng(0)
    colours = rng.integers(60, 190, (20, 1, 3), np.uint8)  # which stay within the range
    picture = Image.fromarray(colours)
    result = np.asarray(texture_operations.scaled_brightness(picture, "HLS", 1.1, -5))
    for before, after in zip(colours[:, 0] / 255, result[:, 0], strict=True):
        hue, lightness, saturation = colorsys.rgb_to_hls(*before)
        expected = colorsys.hls_to_rgb(hue, 1.1 * lightness - 5 / 255, saturation)
        np.testing.assert_allclose(after, np.array(expected) * 255, atol=0.51)
    lightness = rgb2lab(colours)[..., 0]
    result = rgb2lab(np.asarray(texture_operations.scaled_brightness(picture, "LAB", 1.1, -5)))[..., 0]
    np.testing.assert_allclose(result, 1.1 * lightness - 500 / 255, atol=2)
    flat = np.asarray(texture_operations.scaled_brightness(Image.fromarray(colours // 255), "HLS", 1.0, 20))
    assert np.array_equal(flat, np.full_like(colours, 20))  # black has no hue to keep


def test_images_are_decoded_once_within_a_bounded_memory(tmp_path, monkeypatch):
    split = image_split(tmp_path, train=7, test=1, size=40)
    paths = [split.image_path(row) for row in split.phase("train")]
    read = Mock(side_effect=read_image)
    monkeypatch.setattr(decoded, "read_image", read)
    images = DecodedImages(paths, 32, most_bytes=3 * 3 * 32**2 + 100)
    assert images.kept.tolist() == [0, 3, 6]  # evenly spaced
    for _ in range(2):
        assert all(np.array_equal(images[row], read_image(path, 32)) for row, path in enumerate(paths))
    assert read.call_count == 7 + 4
    assert Textures.of(Corruption(), images, list("abbbbba"), 32, used=[1, 3, 6]).kept.tolist() == [3, 6]
    textures = Textures.of(Corruption(operations=0), images, ["a", "b", "b", "b", "b", "b", "a"], 32)
    seen = [textures.draw(0, Corruption(operations=0), np.random.default_rng(seed)) for seed in range(5)]
    assert all(np.array_equal(texture, images[3]) for texture in seen)  # of the other class, one is kept
    assert read.call_count == 7 + 4
