"""`invad-pipe evaluate`: the same numbers from every kind of file, a table, and one line for a mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from invad import cli
from invad.errors import InputError
from invad.metrics import KEYS, bootstrap, evaluate
from invad.scoring.map_inputs import read_inputs

SIZE = (6, 8)
PATHS = [
    f"{name}/{image}" for name in ("bottle", "cable") for image in ("broken/000", "broken/001", "good/000", "good/001")
]
CLASSES = [path.split("/")[0] for path in PATHS]
LABELS = [1, 1, 0, 0] * 2


def example() -> tuple[np.ndarray, np.ndarray]:
    """Maps float32 and masks bool of `PATHS`."""
    rng = np.random.default_rng(0)
    masks = np.zeros((len(PATHS), *SIZE), dtype=bool)
    masks[::4, 1:3, 2:5] = masks[1::4, 4:, 6:] = True
    return (rng.normal(size=masks.shape) + masks).astype(np.float32), masks


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_maps(suffix: str = ".npy", paths=PATHS, root: str = "maps") -> None:
    for path, values in zip(paths, example()[0], strict=False):
        file = Path(root, path + suffix)
        file.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(file, values)
        else:
            Image.fromarray(values).save(file)


def write_masks(pattern: str = "{}_mask.png", paths=PATHS, scale: int = 1, root: str = "masks") -> None:
    """Write the masks of anomalous images, `scale` times as large as the maps."""
    for path, mask in zip(paths, example()[1], strict=False):
        if mask.any():
            file = Path(root, pattern.format(path))
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.kron(mask, np.ones((scale, scale))).astype(np.uint8) * 255).save(file)


def write_lines(name: str, lines) -> None:
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def command(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Run `invad-pipe evaluate` in this process; return exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["invad-pipe", "evaluate", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


@pytest.fixture
def run(folder, monkeypatch, capsys):
    return lambda *arguments: command(monkeypatch, capsys, *arguments)


@pytest.fixture
def result(run):
    """Run the command and return what it writes as JSON."""

    def of(*arguments: str) -> dict:
        code, _, err = run(*arguments, "--json", "out/result.json")
        assert (code, err) == (0, "")
        return json.loads(Path("out/result.json").read_text(encoding="utf-8"))

    return of


@pytest.fixture
def mistake(run):
    """Run the command, which must refuse, and return its message."""

    def of(*arguments: str) -> str:
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert err.startswith("invad-pipe: error: ")
        return err.removeprefix("invad-pipe: error: ").strip()

    return of


# ---------------------------------------------------------------- the same numbers from every kind of file


def test_every_kind_of_file_gives_the_numbers_of_evaluate(result):
    maps, masks = example()
    expected = evaluate(maps, masks, CLASSES)
    assert expected["mean"]["paper"]["mad"] is not None

    np.save("maps.npy", maps)
    np.save("masks.npy", masks)
    write_lines("classes.txt", CLASSES)
    write_lines("labels.txt", LABELS)
    assert result("--maps", "maps.npy", "--masks", "masks.npy", "--classes", "classes.txt") == expected
    np.savez("all.npz", anomaly_maps=maps, masks=masks.astype(np.uint8) * 255, classes=CLASSES, labels=LABELS)
    assert result("--maps", "all.npz") == expected
    np.savez_compressed("only.npz", maps)
    assert result("--maps", "only.npz", "--masks", "all.npz", "--classes", "classes.txt") == expected

    write_masks()
    for suffix in (".npy", ".tiff"):
        write_maps(suffix, root=f"maps{suffix}s")
        assert result("--maps", f"maps{suffix}s", "--masks", "masks") == expected
        assert result("--maps", f"maps{suffix}s", "--masks", "masks", "--labels", "labels.txt") == expected
    write_maps(paths=[path.replace("/", "/test/", 1) for path in PATHS], root="mvtec_maps")
    write_masks(paths=[path.replace("/", "/ground_truth/", 1) for path in PATHS], root="mvtec")
    assert result("--maps", "mvtec_maps", "--masks", "mvtec") == expected


@pytest.mark.parametrize("dtype", [">f4", "<f8", "uint16", "int32"])
def test_other_numbers_give_the_same_from_arrays_and_folders(result, dtype):
    maps = (example()[0] * 100 + 500).astype(dtype)
    np.save("maps.npy", np.asfortranarray(maps))
    np.save("masks.npy", example()[1])
    write_lines("classes.txt", CLASSES)
    write_maps()
    for path, values in zip(PATHS, maps, strict=True):
        np.save(f"maps/{path}.npy", values)
    write_masks()
    expected = evaluate(maps.astype(maps.dtype.newbyteorder("=")), example()[1], CLASSES)
    assert result("--maps", "maps.npy", "--masks", "masks.npy", "--classes", "classes.txt") == expected
    assert result("--maps", "maps", "--masks", "masks") == expected


def test_one_protocol_alone(result, run):
    write_maps()
    write_masks()
    both = result("--maps", "maps", "--masks", "masks")
    for protocol in ("paper", "exact"):
        one = result("--maps", "maps", "--masks", "masks", "--protocol", protocol)
        assert one["mean"] == {protocol: both["mean"][protocol]}
    assert run("--maps", "maps", "--protocol", "papre")[0] == 2


def test_an_unknown_mask_leaves_its_image_out_as_in_evaluate(result):
    maps, masks = example()
    write_maps()
    write_masks()
    Path("masks/bottle/broken/001_mask.png").unlink()
    write_lines("labels.txt", LABELS)
    has_mask = np.arange(8) != 1
    expected = evaluate(maps, masks, CLASSES, LABELS, has_mask=has_mask)
    assert any("1 of 2 anomalous images" in note for note in expected["notes"])
    assert result("--maps", "maps", "--masks", "masks", "--labels", "labels.txt") == expected


def test_without_masks_labels_give_the_image_metrics(result):
    write_maps()
    np.save("maps.npy", example()[0])
    write_lines("labels.txt", LABELS)
    write_lines("classes.txt", CLASSES)
    expected = evaluate(example()[0], None, CLASSES, LABELS)
    assert expected["mean"]["exact"]["image_auroc"] is not None
    assert result("--maps", "maps", "--labels", "labels.txt") == expected
    assert result("--maps", "maps.npy", "--labels", "labels.txt", "--classes", "classes.txt") == expected


def test_classes_of_a_file_go_by_the_sorted_paths(result):
    write_maps(paths=[path.replace("/", "-") for path in PATHS])
    write_masks(paths=[path.replace("/", "-") for path in PATHS])
    write_lines("labels.txt", LABELS)
    arguments = ("--maps", "maps", "--masks", "masks", "--labels", "labels.txt")
    assert result(*arguments) == evaluate(*example(), labels=LABELS)
    Path("classes.txt").write_bytes("\ufeff".encode() + "\r\n".join(CLASSES).encode())  # as some editors save it
    assert result(*arguments, "--classes", "classes.txt") == evaluate(*example(), CLASSES, LABELS)


# ---------------------------------------------------------------- masks of another size


def test_masks_are_resized_with_one_note(run, result):
    write_maps()
    write_masks(scale=2)
    arguments = ("--maps", "maps", "--masks", "masks")
    assert result(*arguments) == evaluate(*example(), CLASSES)
    _, out, _ = run(*arguments)
    assert [line for line in out.splitlines() if line.startswith("note: ")] == [
        "note: 4 mask(s) resized to the maps' 8x6 pixels"
    ]


def test_a_mask_that_resizing_empties_is_anomalous_in_the_exact_protocol_only(result):
    mask = np.zeros((24, 32), np.uint8)
    mask[9, 9] = 255
    write_maps()
    write_masks(scale=4)
    Image.fromarray(mask).save("masks/bottle/broken/000_mask.png")
    resized = example()[1]
    resized[0] = False
    expected = evaluate(example()[0], resized, CLASSES, LABELS)
    assert "1 image(s) labelled anomalous have no anomalous pixel" in expected["notes"][0]
    assert result("--maps", "maps", "--masks", "masks") == expected


# ---------------------------------------------------------------- mistakes


def test_a_map_without_a_mask_says_what_would_be_right(mistake):
    write_maps()
    write_masks()
    Path("masks/cable/broken/000_mask.png").unlink()
    end = "a map of a normal image lies in a folder good, or labels say what is anomalous"
    message = mistake("--maps", "maps", "--masks", "masks")
    assert message == f"maps/cable/broken/000.npy: there is no masks/cable/broken/000.png; {end}"
    assert mistake("--maps", "maps") == f"maps/bottle/broken/000.npy: there are no masks; {end}"


def test_a_mask_without_a_map_is_an_error(mistake):
    write_maps()
    write_masks()
    Path("masks/cable/broken/001_mask.png").rename("masks/cable/broken/01_mask.png")
    message = mistake("--maps", "maps", "--masks", "masks")
    assert message == "masks/cable/broken/01_mask.png: is the mask of no map; the first map is bottle/broken/000.npy"


UNREADABLE = "list: cannot be read as UTF-8 text"


@pytest.mark.parametrize("option", ["--classes", "--labels"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\n" * 7, "list: has 7 line(s), but there are 8 maps; expected one for each"),
        (b"1\n" * 8 + b"\n", "list: has 9 line(s), but there are 8 maps; expected one for each"),
        (b"", "list: has 1 line(s), but there are 8 maps; expected one for each"),
        (
            b"1\n" * 7 + b"\xff",
            f"{UNREADABLE} ('utf-8' codec can't decode byte 0xff in position 14: invalid start byte)",
        ),
        (None, f"{UNREADABLE} (No such file or directory)"),
    ],
)
def test_a_list_must_have_a_line_for_each_map(mistake, option, content, message):
    write_maps()
    write_masks()
    np.save("maps.npy", example()[0])
    if content is not None:
        Path("list").write_bytes(content)
    assert mistake("--maps", "maps", "--masks", "masks", option, "list") == message
    assert mistake("--maps", "maps.npy", option, "list") == message


def test_lines_that_are_no_class_or_label_are_named(mistake):
    np.save("maps.npy", example()[0])
    write_lines("list", ["1"] * 5 + [" "] + ["1"] * 2)
    assert mistake("--maps", "maps.npy", "--classes", "list") == "list, line 6: ''; expected the name of a class"
    write_lines("list", ["1"] * 5 + ["2"] + ["1"] * 2)
    message = mistake("--maps", "maps.npy", "--labels", "list")
    assert message == "list, line 6: '2'; expected 0 (normal) or 1 (anomalous)"


def test_arrays_and_folders_do_not_go_together(mistake):
    write_maps()
    write_masks()
    np.save("maps.npy", example()[0])
    np.save("masks.npy", example()[1])
    for maps, masks in (("maps", "masks.npy"), ("maps.npy", "masks")):
        message = mistake("--maps", maps, "--masks", masks)
        assert message.startswith(f"{masks}: could be matched with {maps} by position only; give two folders, or two ")


def test_paths_that_are_no_maps_are_named(mistake):
    assert mistake("--maps", "nowhere") == "nowhere: no such file or folder"
    np.save("maps.npy", example()[0])
    assert mistake("--maps", "maps.npy", "--masks", "nowhere") == "nowhere: no such file or folder"
    Path("maps.txt").touch()
    assert mistake("--maps", "maps.txt") == "maps.txt: expected a folder, or a .npy or .npz file"
    Path("empty").mkdir()
    assert mistake("--maps", "empty") == "empty: has no maps (.npy, .png, .tif, .tiff)"
    os.mkfifo("pipe.npy")
    assert mistake("--maps", "pipe.npy") == "pipe.npy: not a file"


@pytest.mark.parametrize("name", ["bottle/broken/001", "cable/good/001"])
def test_a_bad_file_among_the_maps_is_named(mistake, name):
    write_maps()
    write_masks()
    file = Path(f"maps/{name}.npy")
    np.save(file, np.full(SIZE, np.nan))
    assert mistake("--maps", "maps", "--masks", "masks") == f"{file}: holds NaN or infinity; scores must be finite"
    np.save(file, np.zeros((6, 9)))
    message = mistake("--maps", "maps", "--masks", "masks")
    assert message == f"{file}: has 9x6 pixels; all maps must have the 8x6 of bottle/broken/000.npy"
    file.write_bytes(file.read_bytes()[:-1])
    assert mistake("--maps", "maps", "--masks", "masks").startswith(f"{file}: damaged, or not a .npy file")


def test_a_bad_mask_is_named(mistake):
    write_maps()
    write_masks()
    file = Path("masks/cable/broken/001_mask.png")
    file.write_bytes(file.read_bytes()[:-20])
    assert mistake("--maps", "maps", "--masks", "masks").startswith(f"{file}: ")


def test_what_evaluate_refuses_is_named_by_its_file(mistake):
    maps, masks = example()
    np.save("masks.npy", masks)
    maps[5, 0, 0] = np.nan
    np.save("maps.npy", maps)
    message = mistake("--maps", "maps.npy", "--masks", "masks.npy")
    assert message.startswith("maps.npy: ")
    assert "image 5" in message
    np.savez("all.npz", maps=example()[0], masks=masks * np.uint8(7))
    message = mistake("--maps", "all.npz")
    assert message.startswith("all.npz: image 0")
    assert "holds 7" in message
    np.savez("all.npz", maps=example()[0], masks=masks, labels=[2] * 8)
    assert mistake("--maps", "all.npz").startswith("all.npz: image 0 has 2")
    np.savez("all.npz", maps=example()[0], masks=masks, classes=["a"])
    assert mistake("--maps", "all.npz").startswith("all.npz: expected 8 values, one for each image")


@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        (np.zeros(SIZE), None, "maps.npy: holds float64 of the shape (6, 8); expected numbers of the shape (N, H, W)"),
        (
            np.zeros((8, 1, *SIZE)),
            None,
            "maps.npy: holds float64 of the shape (8, 1, 6, 8); expected numbers of the shape (N, H, W)",
        ),
        (
            np.zeros((8, *SIZE), bool),
            None,
            "maps.npy: holds bool of the shape (8, 6, 8); expected numbers of the shape (N, H, W)",
        ),
        (
            np.zeros((0, *SIZE)),
            None,
            "maps.npy: holds float64 of the shape (0, 6, 8); expected numbers of the shape (N, H, W)",
        ),
        (np.zeros((8, *SIZE)), None, "maps.npy: has no masks; give them, or labels for the image metrics alone"),
        (
            np.zeros((8, *SIZE)),
            np.zeros((7, *SIZE)),
            "masks.npy: end after 7 images, but there are more anomaly_maps",
        ),
        (
            np.zeros((8, *SIZE)),
            np.zeros((8, 12, 16)),
            "masks.npy: height and width (12, 16) differ from those of anomaly_maps, (6, 8)",
        ),
        (np.zeros((8, *SIZE)), np.zeros(SIZE), "masks.npy: expected three dimensions (n, H, W), got shape (6, 8)"),
        (
            np.zeros((8, *SIZE)),
            np.zeros((8, *SIZE), "U1"),
            "masks.npy: unexpected type <U1; expected bool, integers, unsigned integers, floating point",
        ),
        (
            np.zeros((8, *SIZE)),
            np.full((8, *SIZE), 7),
            "masks.npy: image 0 (class 'all') holds 7; integers within an image must be only 0 and 1, or only 0 and 255",
        ),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(mistake, maps, masks, message):
    np.save("maps.npy", maps)
    if masks is not None:
        np.save("masks.npy", masks)
    assert mistake("--maps", "maps.npy", *(() if masks is None else ("--masks", "masks.npy"))) == message


def test_the_result_is_not_written_over_an_input_or_a_folder(mistake, run):
    np.savez("all.npz", maps=example()[0], masks=example()[1])
    end = "is a folder or an input; expected the name of a new file"
    assert mistake("--maps", "all.npz", "--json", "all.npz") == f"--json all.npz: {end}"
    assert mistake("--maps", "all.npz", "--json", ".") == f"--json .: {end}"
    code, out, err = run("--maps", "all.npz", "--json", "all.npz/result.json")
    assert code == 2
    assert out.startswith("protocol paper")  # nothing that was computed is lost
    assert err.startswith("invad-pipe: error: all.npz: is a file, or lies in one; expected a folder")


# ---------------------------------------------------------------- the table


def test_the_table_has_a_row_for_each_class_and_the_mean_of_each_protocol(run, result):
    maps, masks = example()
    masks[4:] = False
    np.savez("all.npz", maps=maps, masks=masks, classes=CLASSES, more=[1])
    code, out, err = run("--maps", "all.npz")
    values = result("--maps", "all.npz")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    for protocol, start in (("paper", 0), ("exact", 6)):
        assert lines[start] == f"protocol {protocol}, version {values['protocol_version']}, percent"
        assert lines[start + 1].split("  ")[0] == "class"
        assert lines[start + 1].split()[1:8] == ["I-AU-ROC", "I-AP", "I-F1max", "AU-PRO", "P-AU-ROC", "P-AP", "P-F1max"]
        for line, name in zip(lines[start + 2 : start + 5], ("bottle", "cable", "mean"), strict=True):
            numbers = values["mean"] if name == "mean" else values["per_class"][name]
            shown = ["-" if numbers[protocol][key] is None else f"{100 * numbers[protocol][key]:.1f}" for key in KEYS]
            assert line.split() == [name, *shown]
        assert set(lines[start + 3].split()[1:]) == {"-"}
        assert lines[start + 5] == ""
        assert len({len(line) for line in lines[start + 1 : start + 5]}) == 1
    assert lines[12:] == [f"note: {note}" for note in values["notes"]]
    assert max(map(len, lines[:12])) <= 130


def test_intervals_stand_below_the_values_of_the_exact_protocol(run, result, mistake):
    maps, masks = example()
    masks[4:] = False
    np.savez("all.npz", maps=maps, masks=masks, classes=CLASSES)
    values = result("--maps", "all.npz", "--intervals")
    expected = bootstrap(maps, masks, CLASSES)
    assert values == evaluate(maps, masks, CLASSES) | {"intervals": expected}
    lines = run("--maps", "all.npz", "--intervals")[1].splitlines()
    assert lines[2:5] == run("--maps", "all.npz")[1].splitlines()[2:5]
    assert lines[6].endswith("percent, with 95 % intervals from 1000 draws of the images")
    for start, drawn in ((9, expected["per_class"]["bottle"]), (13, expected["mean"])):
        assert lines[start].split() == [f"{100 * low:.1f}-{100 * high:.1f}" for low, high in drawn.values()]
    assert set(lines[11].split()) == {"-"}
    assert mistake("--maps", "all.npz", "--intervals", "--protocol", "paper") == (
        "--intervals: are of the exact protocol; expected --protocol exact or both"
    )


@pytest.mark.slow
def test_the_command_works_where_it_is_not_a_terminal(folder):
    np.savez("all.npz", maps=example()[0], masks=example()[1], classes=["x" * 40] * 8)
    code = "from invad.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "--maps", "all.npz", "--protocol", "paper"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "40"},
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["protocol", "class", "x" * 40, "mean"]
    assert max(map(len, done.stdout.splitlines())) <= 160


def test_the_same_from_python(folder):
    write_maps()
    write_masks()
    inputs = read_inputs(Path("maps"), Path("masks"))
    assert inputs.evaluate() == evaluate(*example(), CLASSES)
    assert inputs.evaluate("exact")["mean"].keys() == {"exact"}
    with pytest.raises(InputError, match=r"^protocol: "):
        inputs.evaluate("papre")


def test_objects_of_a_file_of_groups_have_metrics_of_their_own(result, run):
    maps, masks = example()
    groups = ["S1", "S2", "S1", "S2"] * 2
    np.save("maps.npy", maps)
    np.save("masks.npy", masks)
    write_lines("classes.txt", CLASSES)
    write_lines("groups.txt", groups)
    arrays = ["--maps", "maps.npy", "--masks", "masks.npy", "--classes", "classes.txt", "--groups", "groups.txt"]
    expected = evaluate(maps, masks, CLASSES, groups=groups)
    assert result(*arrays) == expected
    write_maps()
    write_masks()
    assert result("--maps", "maps", "--masks", "masks", "--groups", "groups.txt") == expected
    assert "S-AU-ROC" in run(*arrays)[1]
    write_lines("groups.txt", groups[1:])
    code, _, err = run(*arrays)
    assert (code, "groups.txt: has 7 line(s), but there are 8 maps" in err) == (2, True)
