"""Maps and masks in files: what is read, what goes with what, and that every error names its file."""

import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import refusal, save_image, save_mask
from PIL import Image

from invad.data.images import read_mask, resize_mask
from invad.errors import InputError
from invad.scoring import map_inputs
from invad.scoring.map_inputs import (
    BATCH,
    MAP_SUFFIXES,
    classes_of_folders,
    list_files,
    match_masks,
    open_arrays,
    read_inputs,
    read_map,
)

RAMP = np.arange(6).reshape(2, 3)
NAMES = ("anomaly_maps", "maps")


def save_map(path: Path, values=RAMP, dtype="float32") -> Path:
    """Write a map as `.npy` or as an image of Pillow's grey modes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(values).astype(dtype)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


def refused(path: Path, read=read_map) -> str:
    """The message, without the path that it must begin with, with which `path` is refused."""
    return refusal(read, path)


def header(shape: str, descr: str = "<f4") -> bytes:
    """The header of a `.npy` file that announces a shape, without data."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


# ---------------------------------------------------------------- one map


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "uint8", "int16", "int64"])
def test_npy_maps_keep_their_numbers_and_type(tmp_path, dtype):
    found = read_map(save_map(tmp_path / "a.npy", dtype=dtype))
    assert found.tolist() == RAMP.tolist()
    assert found.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize(
    ("name", "dtype", "scale"),
    [
        ("a.tif", "float32", 0.1),
        ("a.tiff", "uint16", 10_000),
        ("a.tiff", ">u2", 10_000),
        ("a.tiff", "uint8", 50),
        ("a.png", "uint16", 10_000),
        ("a.png", "uint8", 50),
        ("A.TIFF", "float32", -0.1),
    ],
)
def test_grey_images_keep_their_numbers(tmp_path, name, dtype, scale):
    values = (RAMP * scale).astype(dtype)
    assert read_map(save_map(tmp_path / name, values, dtype)).tolist() == values.tolist()


def test_numbers_of_32_bits_in_an_image_are_refused(tmp_path):
    message = refused(save_map(tmp_path / "a.tiff", RAMP, "int32"))
    assert message == "has the pixel format I; a map has one grey value of 8 or 16 bits or float32 for each pixel"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.npy", "a.tiff"])
def test_a_map_that_is_not_finite_is_refused(tmp_path, name, value):
    assert refused(save_map(tmp_path / name, [[0, value]])) == "holds NaN or infinity; scores must be finite"


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([RAMP], "float32", "holds float32 of the shape (1, 2, 3); expected numbers of the shape (H, W)"),
        ([1, 2], "float32", "holds float32 of the shape (2,); expected numbers of the shape (H, W)"),
        (RAMP > 2, "bool", "holds bool of the shape (2, 3); expected numbers of the shape (H, W)"),
        (RAMP, "complex64", "holds complex64 of the shape (2, 3); expected numbers of the shape (H, W)"),
        (RAMP, "U1", "holds <U1 of the shape (2, 3); expected numbers of the shape (H, W)"),
    ],
)
def test_an_array_that_is_no_map_is_refused(tmp_path, values, dtype, message):
    assert refused(save_map(tmp_path / "a.npy", values, dtype)) == message


def test_damaged_files_are_refused_with_their_name(tmp_path):
    whole = save_map(tmp_path / "a.npy").read_bytes()
    for content in (
        b"",
        whole[:-1],
        whole[:50],
        b"text",
        header("(0, 5)"),
        header("(2**9, 2)"),
        header("(-1, 5)"),
        pickle.dumps([1]),
    ):
        path = tmp_path / "b.npy"
        path.write_bytes(content)
        refused(path)
    for name, dtype in (("a.tiff", "float32"), ("a.png", "uint16")):
        whole = save_map(tmp_path / name, np.arange(4096).reshape(64, 64), dtype).read_bytes()
        for content in (b"", whole[:-100], b"text"):
            path = tmp_path / f"b{name}"
            path.write_bytes(content)
            refused(path)
    assert refused(tmp_path / "none.npy") == "no such file"
    assert refused(tmp_path / "none.png") == "no such image"
    os.mkfifo(tmp_path / "pipe.npy")
    assert refused(tmp_path / "pipe.npy") == "not a file"


def test_nothing_is_unpickled(tmp_path):
    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    array = np.array([[Harm()]])
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", array, allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Harm()))
    for name in ("a.npy", "b.npy"):
        assert "not a .npy file of numbers" in refused(tmp_path / name)
    assert "not a .npz file of numbers" in refused(tmp_path / "a.npz", lambda path: open_arrays(path, NAMES))
    assert not (tmp_path / "harm").exists()


def test_colours_and_pages_are_refused(tmp_path):
    assert "pixel format RGB" in refused(save_image(tmp_path / "a.png"))
    pages = [Image.fromarray(RAMP.astype("f4"))] * 2
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    assert "has several frames or pages" in refused(tmp_path / "a.tiff")


def test_a_map_of_too_many_pixels_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(map_inputs, "MAX_PIXELS", 5)
    assert refused(save_map(tmp_path / "a.npy")) == "has 6 pixels; at most 5 are accepted"


# ---------------------------------------------------------------- arrays


def test_a_npy_file_is_memory_mapped_and_read_only(tmp_path):
    arrays = open_arrays(save_map(tmp_path / "a.npy", [RAMP] * 4), NAMES)
    assert isinstance(arrays["anomaly_maps"], np.memmap)
    assert not arrays["anomaly_maps"].flags.writeable
    assert arrays["anomaly_maps"].tolist() == [RAMP.tolist()] * 4


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_gives_its_only_array_or_the_named_one_and_what_goes_with_it(tmp_path, save):
    path = tmp_path / "a.npz"
    others = ("masks", "classes", "labels")
    save(path, any_name=RAMP)
    assert open_arrays(path, NAMES, others)["anomaly_maps"].tolist() == RAMP.tolist()
    save(path, maps=RAMP, masks=RAMP + 1, labels=[1, 0], classes=["a", "b"], paths=["x"])
    arrays = open_arrays(path, NAMES, others)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "anomaly_maps": RAMP.tolist(),
        "masks": (RAMP + 1).tolist(),
        "classes": ["a", "b"],
        "labels": [1, 0],
    }
    assert list(open_arrays(path, ("masks",))) == ["masks"]


@pytest.mark.parametrize(
    ("names", "there"),
    [(["a", "b"], "a, b"), (["maps", "anomaly_maps"], "maps, anomaly_maps"), (["masks"], "masks"), ([], "none")],
)
def test_an_npz_without_one_array_of_maps_is_refused(tmp_path, names, there):
    np.savez(tmp_path / "a.npz", **dict.fromkeys(names, RAMP))
    message = refused(tmp_path / "a.npz", lambda path: open_arrays(path, NAMES, ("masks",)))
    assert message == f"expected one array, or one named anomaly_maps or maps, not the arrays {there}"


@pytest.mark.parametrize("shape", ["(1000, 100000, 100000)", "(9999999999, 9999999999, 9999999999)"])
def test_an_array_that_announces_more_than_it_has_is_refused(tmp_path, shape):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("maps.npy", header(shape) + b"\0" * 1000)
    assert "damaged, or not a .npz file" in refused(path, lambda path: open_arrays(path, NAMES))


def test_more_bytes_than_a_memory_has_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", maps=np.zeros((100, 100)))
    monkeypatch.setattr(map_inputs, "MAX_BYTES", 80_000)
    message = refused(tmp_path / "a.npz", lambda path: open_arrays(path, NAMES))
    assert message == "has more than 80000 bytes; save its arrays as .npy, which are not read as a whole"


def test_damaged_npz_files_are_refused_with_their_name(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, np.random.default_rng(0).random((4, 20, 20)))
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 255
    for content in (b"", whole[:-30], whole[:100], bytes(changed), b"text"):
        path.write_bytes(content)
        assert "damaged, or not a .npz file" in refused(path, lambda path: open_arrays(path, NAMES))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("maps.npy", header("(4, 4, 4)") + b"\0" * 8)
    assert "damaged, or not a .npz file" in refused(path, lambda path: open_arrays(path, NAMES))


# ---------------------------------------------------------------- a folder of maps


def maps_below(root: Path) -> map_inputs.Files:
    """The maps of a folder, all of them of normal images."""
    names, _ = list_files(root, MAP_SUFFIXES, "maps")
    labels = root.with_suffix(".txt")
    labels.write_text("0\n" * len(names))
    return read_inputs(root, labels=labels).anomaly_maps


def test_a_folder_is_read_in_the_order_of_its_paths_in_batches_and_again(tmp_path):
    count = BATCH + 2
    for number in reversed(range(count)):
        save_map(tmp_path / f"maps/b/{number:03d}.npy", np.full((2, 3), number))
    save_map(tmp_path / "maps/a/z/0.tiff", np.full((2, 3), -1))
    maps = maps_below(tmp_path / "maps")
    for _ in range(2):
        batches = list(maps)
        assert [batch.shape for batch in batches] == [(BATCH, 2, 3), (3, 2, 3)]
        assert np.concatenate(batches)[:, 0, 0].tolist() == [-1, *range(count)]


def test_only_the_maps_of_a_batch_are_opened(tmp_path, monkeypatch):
    for number in range(2 * BATCH):
        save_map(tmp_path / f"maps/{number:03d}.npy")
    maps = maps_below(tmp_path / "maps")
    read = []
    monkeypatch.setattr(map_inputs, "read_map", lambda path: read.append(path) or RAMP)
    next(iter(maps))
    assert len(read) == BATCH


def test_hidden_files_are_ignored_and_others_counted_in_one_note(tmp_path):
    save_map(tmp_path / "a/0.npy")
    save_map(tmp_path / "a/._0.npy")
    save_map(tmp_path / ".cache/0.npy")
    (tmp_path / "readme.txt").touch()
    (tmp_path / "a/results.json").touch()
    assert list_files(tmp_path, MAP_SUFFIXES, "maps") == (["a/0.npy"], [f"{tmp_path}: ignored 2 other file(s)"])


def test_links_to_folders_are_not_followed_and_links_to_maps_are(tmp_path):
    target = save_map(tmp_path / "elsewhere/1.npy")
    save_map(tmp_path / "maps/a/0.npy")
    (tmp_path / "maps/a/1.npy").symlink_to(target)
    (tmp_path / "maps/a/loop").symlink_to(tmp_path / "maps")
    assert list_files(tmp_path / "maps", MAP_SUFFIXES, "maps") == (["a/0.npy", "a/1.npy"], [])
    (tmp_path / "maps/a/gone.npy").symlink_to(tmp_path / "nowhere.npy")
    with pytest.raises(InputError, match=r"gone\.npy: no such file"):
        list(maps_below(tmp_path / "maps"))


def test_one_name_with_two_suffixes_is_refused_with_both(tmp_path):
    first, second = save_map(tmp_path / "a/000.npy"), save_map(tmp_path / "a/000.tiff")
    save_map(tmp_path / "b/000.tiff")
    with pytest.raises(InputError) as caught:
        list_files(tmp_path, MAP_SUFFIXES, "maps")
    assert str(caught.value) == f"{first} and {second}: two maps of one name; keep one"


def test_the_first_map_of_another_size_is_named(tmp_path):
    save_map(tmp_path / "maps/0.npy")
    wrong = save_map(tmp_path / "maps/1.npy", RAMP.T)
    save_map(tmp_path / "maps/2.npy", np.zeros((9, 9)))
    message = refused(wrong, lambda path: list(maps_below(path.parent)))
    assert message == "has 2x3 pixels; all maps must have the 3x2 of 0.npy"


def test_a_folder_without_maps_is_refused(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert refused(tmp_path, lambda path: list_files(path, MAP_SUFFIXES, "maps")) == (
        "has no maps (.npy, .png, .tif, .tiff)"
    )


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["cable/good/0", "bottle/0"], ["cable", "bottle"]),
        (["0", "1"], ["all", "all"]),
        (["good/0", "broken/0"], ["all", "all"]),
        (["normal/0"], ["all"]),
    ],
)
def test_the_class_is_the_first_folder(names, classes):
    assert classes_of_folders(names, Path("maps")) == classes


def test_maps_in_folders_and_beside_them_need_classes():
    with pytest.raises(InputError, match=r"^maps: 1\.npy lies in no folder, other maps do; give --classes$"):
        classes_of_folders(["a/0.npy", "1.npy"], Path("maps"))


# ---------------------------------------------------------------- masks


def matched(tmp_path, maps: list[str], masks: list[str]) -> dict[str, str]:
    for name in masks:
        save_mask(tmp_path / name)
    found, _ = match_masks(maps, tmp_path)
    return {name: path.relative_to(tmp_path).as_posix() for name, path in found.items()}


@pytest.mark.parametrize(
    ("map_name", "mask"),
    [
        ("0.npy", "0.png"),
        ("a/b/0.npy", "a/b/0.bmp"),
        ("a/0.5.npy", "a/0.5.PNG"),
        ("bottle/broken/000.tiff", "bottle/broken/000_mask.png"),
        ("bottle/broken/000.tiff", "bottle/broken/000_gt.tif"),
        ("000_mask.npy", "000_mask.png"),
        ("bottle/test/broken/000.tiff", "bottle/ground_truth/broken/000_mask.png"),
        ("bottle/broken/000.tiff", "bottle/ground_truth/broken/000_mask.png"),
        ("test/broken/000.tiff", "ground_truth/broken/000.png"),
        ("bottle/ground_truth/000.npy", "bottle/ground_truth/000.png"),
    ],
)
def test_a_mask_goes_with_the_map_of_its_name(tmp_path, map_name, mask):
    assert matched(tmp_path, ["another/000.npy", map_name, "z.npy"], [mask]) == {map_name: mask}


@pytest.mark.parametrize(
    ("map_name", "mask"),
    [
        ("a/000.npy", "b/000.png"),
        ("a/000.npy", "000.png"),
        ("000.npy", "a/000.png"),
        ("000.npy", "00.png"),
        ("000.npy", "000mask.png"),
        ("000.npy", "000_mask_mask.png"),
        ("000_mask.npy", "000.png"),
        ("a/000.npy", "a/ground_truth/b/000.png"),
    ],
)
def test_a_mask_without_a_map_is_named(tmp_path, map_name, mask):
    with pytest.raises(InputError) as caught:
        matched(tmp_path, [map_name], [mask])
    assert str(caught.value) == f"{tmp_path / mask}: is the mask of no map; the first map is {map_name}"


def test_two_masks_of_a_map_are_named(tmp_path):
    with pytest.raises(InputError) as caught:
        matched(tmp_path, ["a/0.npy"], ["a/0.png", "a/0_mask.png"])
    first, second = tmp_path / "a/0.png", tmp_path / "a/0_mask.png"
    assert str(caught.value) == f"{first} and {second}: two masks of the map a/0.npy; keep one"


def test_a_mask_named_literally_as_a_map_is_of_that_map(tmp_path):
    masks = ["0.png", "0_mask.png"]
    assert matched(tmp_path, ["0.npy", "0_mask.npy"], masks) == {"0.npy": "0.png", "0_mask.npy": "0_mask.png"}


def test_the_images_of_a_data_set_beside_its_masks_are_no_masks(mvtec_root):
    maps = ["valve/test/broken/000.npy", "valve/test/broken/001.npy", "valve/test/good/000.npy"]
    found, notes = match_masks(maps, mvtec_root)
    folder = mvtec_root / "valve/ground_truth/broken"
    assert found == {maps[0]: folder / "000_mask.png", maps[1]: folder / "001_mask.png"}
    assert notes == [f"{mvtec_root}: ignored 5 image(s) outside the folders ground_truth"]


def test_a_folder_without_masks_is_refused(tmp_path):
    (tmp_path / "0.npy").touch()
    message = refused(tmp_path, lambda path: match_masks(["0.npy"], path))
    assert message == "has no masks (.bmp, .jfif, .jpeg, .jpg, .png, .tif, .tiff, .webp)"


def test_squares_are_resized_as_read_mask_does(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray((rng.random((37, 53)) < 0.4).astype(np.uint8) * 255).save(tmp_path / "0.png")
    for size in (8, 16, 60):
        resized = resize_mask(read_mask(tmp_path / "0.png"), (size, size))
        assert np.array_equal(resized, read_mask(tmp_path / "0.png", size))


def test_masks_are_resized_to_maps_that_are_not_square():
    mask = np.zeros((4, 8), dtype=bool)
    mask[:2, :4] = True
    assert resize_mask(mask, (4, 8)) is mask
    assert resize_mask(mask, (2, 4)).tolist() == [[True, True, False, False], [False] * 4]


def test_masks_of_another_size_are_resized_and_counted_and_a_lost_pixel_still_labels_its_image(tmp_path):
    for number in range(4):
        save_map(tmp_path / f"maps/{number}.npy", np.zeros((4, 4)))
    (tmp_path / "maps/good").mkdir()
    (tmp_path / "maps/3.npy").rename(tmp_path / "maps/good/3.npy")
    save_mask(tmp_path / "masks/0.png", 4)
    save_mask(tmp_path / "masks/1.png", 8)
    values = np.zeros((16, 16), np.uint8)
    values[3, 3] = 255
    Image.fromarray(values).save(tmp_path / "masks/2.png")
    inputs = read_inputs(tmp_path / "maps", tmp_path / "masks")
    for _ in range(2):
        assert np.concatenate(list(inputs.masks)).sum(axis=(1, 2)).tolist() == [4, 4, 0, 0]
    assert inputs.labels.tolist() == [True, True, True, False]
    assert inputs.notes == ["2 mask(s) resized to the maps' 4x4 pixels"]
