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
from invad.scoring import map_files
from invad.scoring.map_files import BATCH, MapFolder, list_files, open_arrays, open_map_folder, read_map
from invad.scoring.map_inputs import ResizedMasks, match_masks

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


def tiff_bytes(values: np.ndarray, sample_format: int) -> bytes:
    """A grey TIFF made by hand; sample formats: 1 unsigned, 2 signed, 3 floating point."""
    height, width = values.shape
    data = values.tobytes()
    tags = [(256, width), (257, height), (258, values.itemsize * 8), (259, 1), (262, 1), (273, 8 + 2 + 10 * 12 + 4)]
    tags += [(277, 1), (278, height), (279, len(data)), (339, sample_format)]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


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
        ("a.tiff", "int32", -100_000),
        ("a.tiff", "uint8", 50),
        ("a.png", "uint16", 10_000),
        ("a.png", "uint8", 50),
        ("A.TIFF", "float32", -0.1),
    ],
)
def test_grey_images_keep_their_numbers(tmp_path, name, dtype, scale):
    values = (RAMP * scale).astype(dtype)
    assert read_map(save_map(tmp_path / name, values, dtype)).tolist() == values.tolist()


def test_a_tiff_whose_numbers_pillow_does_not_keep_is_refused(tmp_path):
    path = tmp_path / "a.tiff"
    for values, sample_format, kind in (
        (np.array([[1, 3_000_000_000]], "<u4"), 1, "unsigned 32 bits"),
        (np.array([[-5, 5]], "i1"), 2, "signed bytes"),
    ):
        path.write_bytes(tiff_bytes(values, sample_format))
        assert refused(path) == f"holds {kind}; a TIFF may hold float32, or 8 or 16 bits"
    path.write_bytes(tiff_bytes(np.array([[0.5]], "<f8"), 3))
    assert refused(path).endswith("; a TIFF may hold float32, or 8 or 16 bits")
    for values in (np.array([[-5, 5]], "<i2"), np.array([[-5, 5]], "<i4")):
        path.write_bytes(tiff_bytes(values, 2))
        assert read_map(path).tolist() == [[-5, 5]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.npy", "a.tiff"])
def test_a_map_that_is_not_finite_is_refused(tmp_path, name, value):
    assert refused(save_map(tmp_path / name, [[0, value]])) == "holds NaN or infinity; scores must be finite"


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([RAMP], "float32", "has the shape (1, 2, 3); expected (H, W)"),
        ([1, 2], "float32", "has the shape (2,); expected (H, W)"),
        (RAMP > 2, "bool", "holds bool; expected (H, W) of numbers"),
        (RAMP, "complex64", "holds complex64; expected (H, W) of numbers"),
        (RAMP, "U1", "holds <U1; expected (H, W) of numbers"),
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
    monkeypatch.setattr(map_files, "MAX_PIXELS", 5)
    assert refused(save_map(tmp_path / "a.npy")) == "has 6 pixels; at most 5 are accepted"


# ---------------------------------------------------------------- arrays


def test_a_npy_file_is_memory_mapped_and_read_only(tmp_path):
    arrays, notes = open_arrays(save_map(tmp_path / "a.npy", [RAMP] * 4), NAMES)
    assert isinstance(arrays["anomaly_maps"], np.memmap)
    assert not arrays["anomaly_maps"].flags.writeable
    assert arrays["anomaly_maps"].tolist() == [RAMP.tolist()] * 4
    assert notes == []


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_gives_its_only_array_or_the_named_one_and_what_goes_with_it(tmp_path, save):
    path = tmp_path / "a.npz"
    others = ("masks", "classes", "labels")
    save(path, any_name=RAMP)
    assert open_arrays(path, NAMES, others)[0]["anomaly_maps"].tolist() == RAMP.tolist()
    save(path, maps=RAMP, masks=RAMP + 1, labels=[1, 0], classes=["a", "b"], paths=["x"])
    arrays, notes = open_arrays(path, NAMES, others)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "anomaly_maps": RAMP.tolist(),
        "masks": (RAMP + 1).tolist(),
        "classes": ["a", "b"],
        "labels": [1, 0],
    }
    assert notes == [f"{path}: not read: paths"]
    assert list(open_arrays(path, ("masks",))[0]) == ["masks"]


@pytest.mark.parametrize(
    ("names", "there"),
    [(["a", "b"], "a, b"), (["maps", "anomaly_maps"], "maps, anomaly_maps"), (["masks"], "masks"), ([], "none")],
)
def test_an_npz_without_one_array_of_maps_is_refused(tmp_path, names, there):
    np.savez(tmp_path / "a.npz", **dict.fromkeys(names, RAMP))
    message = refused(tmp_path / "a.npz", lambda path: open_arrays(path, NAMES, ("masks",)))
    assert message == f"expected one array, or one named anomaly_maps or maps, not the arrays {there}"


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("(1000, 100000, 100000)", "40.0TB"),
        ("(17, 32768, 32768)", "73.0GB"),
        ("(9999999999, 9999999999, 9999999999)", "4000000"),
    ],
)
def test_an_array_too_large_for_the_memory_is_refused_by_its_header(tmp_path, monkeypatch, shape, size):
    monkeypatch.setattr(map_files, "_free_memory", lambda: 10**15)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("maps.npy", header(shape) + b"\0" * 1000)
    message = refused(path, lambda path: open_arrays(path, NAMES))
    assert message.startswith(f"its arrays need {size}")
    assert "68.7GB can be had; save them as .npy" in message


def test_arrays_that_do_not_fit_together_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(map_files, "_free_memory", lambda: 3 * RAMP.nbytes // 2)
    np.savez(tmp_path / "a.npz", maps=RAMP, masks=RAMP)
    assert open_arrays(tmp_path / "a.npz", NAMES)[0]["anomaly_maps"].shape == (2, 3)
    assert "its arrays need 96.0B" in refused(tmp_path / "a.npz", lambda path: open_arrays(path, NAMES, ("masks",)))


def test_the_free_memory_is_known():
    assert 2**20 < map_files._free_memory() < 2**50


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


def test_a_folder_is_read_in_the_order_of_its_paths_in_batches_and_again(tmp_path):
    count = BATCH + 2
    for number in reversed(range(count)):
        save_map(tmp_path / f"b/{number:03d}.npy", np.full((2, 3), number))
    save_map(tmp_path / "a/z/0.tiff", np.full((2, 3), -1))
    folder = open_map_folder(tmp_path)
    assert folder.names[:2] == ["a/z/0.tiff", "b/000.npy"]
    assert (len(folder), folder.size) == (count + 1, (2, 3))
    for _ in range(2):
        batches = list(folder)
        assert [batch.shape for batch in batches] == [(BATCH, 2, 3), (3, 2, 3)]
        assert np.concatenate(batches)[:, 0, 0].tolist() == [-1, *range(count)]


def test_only_the_maps_of_a_batch_are_opened(tmp_path, monkeypatch):
    for number in range(2 * BATCH):
        save_map(tmp_path / f"{number:03d}.npy")
    folder = open_map_folder(tmp_path)
    read = []
    monkeypatch.setattr(map_files, "read_map", lambda path: read.append(path) or RAMP)
    next(iter(folder))
    assert len(read) == BATCH


def test_hidden_files_are_ignored_and_others_counted_in_one_note(tmp_path):
    save_map(tmp_path / "a/0.npy")
    save_map(tmp_path / "a/._0.npy")
    save_map(tmp_path / ".cache/0.npy")
    (tmp_path / "readme.txt").touch()
    (tmp_path / "a/results.json").touch()
    folder = open_map_folder(tmp_path)
    assert folder.names == ["a/0.npy"]
    assert folder.notes == [f"{tmp_path}: ignored 2 other file(s)"]


def test_links_to_folders_are_not_followed_and_links_to_maps_are(tmp_path):
    target = save_map(tmp_path / "elsewhere/1.npy")
    save_map(tmp_path / "maps/a/0.npy")
    (tmp_path / "maps/a/1.npy").symlink_to(target)
    (tmp_path / "maps/a/loop").symlink_to(tmp_path / "maps")
    assert list_files(tmp_path / "maps", map_files.MAP_SUFFIXES) == (
        ["a/0.npy", "a/1.npy"],
        [f"{tmp_path / 'maps'}: ignored 1 linked folder(s)"],
    )
    (tmp_path / "maps/a/gone.npy").symlink_to(tmp_path / "nowhere.npy")
    with pytest.raises(InputError, match=r"gone\.npy: no such file"):
        list(open_map_folder(tmp_path / "maps"))


def test_one_name_with_two_suffixes_is_refused_with_both(tmp_path):
    first, second = save_map(tmp_path / "a/000.npy"), save_map(tmp_path / "a/000.tiff")
    save_map(tmp_path / "b/000.tiff")
    with pytest.raises(InputError) as caught:
        open_map_folder(tmp_path)
    assert str(caught.value) == f"{first} and {second}: two maps of one name; keep one"


def test_the_first_map_of_another_size_is_named(tmp_path):
    save_map(tmp_path / "0.npy")
    wrong = save_map(tmp_path / "1.npy", RAMP.T)
    save_map(tmp_path / "2.npy", np.zeros((9, 9)))
    message = refused(wrong, lambda path: list(open_map_folder(tmp_path)))
    assert message == "has 2x3 pixels; all maps must have the 3x2 of 0.npy"


def test_a_folder_without_maps_is_refused(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert refused(tmp_path, open_map_folder) == "has no maps (.npy, .png, .tif, .tiff)"


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
    assert MapFolder(Path("maps"), names, (2, 3)).classes() == classes


def test_maps_in_folders_and_beside_them_need_classes():
    with pytest.raises(InputError, match=r"^maps: 1\.npy lies in no folder, other maps do; give --classes$"):
        MapFolder(Path("maps"), ["a/0.npy", "1.npy"], (2, 3)).classes()


# ---------------------------------------------------------------- masks


def matched(tmp_path, maps: list[str], masks: list[str]) -> dict[str, str]:
    for name in masks:
        save_mask(tmp_path / name)
    found, _ = match_masks(MapFolder(Path("maps"), maps, (2, 3)), tmp_path)
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
    found, notes = match_masks(MapFolder(Path("maps"), maps, (2, 3)), mvtec_root)
    folder = mvtec_root / "valve/ground_truth/broken"
    assert found == {maps[0]: folder / "000_mask.png", maps[1]: folder / "001_mask.png"}
    assert notes == [f"{mvtec_root}: ignored 5 image(s) outside the folders ground_truth"]


def test_a_folder_without_masks_is_refused(tmp_path):
    (tmp_path / "0.npy").touch()
    message = refused(tmp_path, lambda path: match_masks(MapFolder(Path("maps"), ["0.npy"], (2, 3)), path))
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


def test_masks_of_files_are_read_in_batches_and_those_of_another_size_counted(tmp_path):
    files = [save_mask(tmp_path / "0.png", 4), None, save_mask(tmp_path / "2.png", 8), save_mask(tmp_path / "3.png", 8)]
    files += [None] * BATCH
    masks = ResizedMasks(files, (4, 4))
    for _ in range(2):
        batches = list(masks)
        assert [len(batch) for batch in batches] == [BATCH, 4]
        assert np.concatenate(batches).sum(axis=(1, 2)).tolist() == [4, 0, 4, 4] + [0] * BATCH
    assert masks.labels().tolist() == [True, False, True, True] + [False] * BATCH
    assert masks.count() == 2


def test_a_pixel_lost_by_resizing_still_labels_the_image(tmp_path):
    values = np.zeros((16, 16), np.uint8)
    values[3, 3] = 255
    Image.fromarray(values).save(tmp_path / "0.png")
    masks = ResizedMasks([tmp_path / "0.png", None], (4, 4))
    assert not np.concatenate(list(masks)).any()
    assert masks.labels().tolist() == [True, False]
