"""Edits of params.yaml: what is added, and that nothing else of the file changes."""

import difflib
from pathlib import Path

import pytest
import yaml

from invad.config import load_params
from invad.config.params_file import add_benchmark, remove_dataset, update_download
from invad.errors import InputError

REPOSITORY = Path(__file__).parents[2]
TABLE = {"source": "path", "path": "/data/leather", "table": "data/import/leather.csv"}
SPLITS = {"seed": 0, "test_share": 0.2}
# Of another hand: four columns of indentation, quotes, comments behind the last key and at its depth, braces over several lines.
ODD = """\
benchmarks:
    'one': {dataset: visa, settings: recipe}  # mine
    # no other yet

download: # where from
    visa: {source: embedded, seed: 0x1} # in braces
    # coco:
    #     source: official
  # between the sections

splits:
    recipe:
        strict: true
calibration:
    recipe: {share: 0.0, false_positive_rate: 1.0e-2, seed: 0}
features:
    recipe:
        encoder: "mobilenetv2_100"
        weights: packaged


# the sizes
train:
    workers: 1
    resources_per_worker: {cpu: 2, gpu: auto}
    recipe:
        epochs: 3
        learning_rate: 4.0e-3  # tuned

score:
    recipe:
        sigma: 2.0
ablations: {}
# the end
"""
# Every section repeats its first entry.
ALIASES = """\
benchmarks:
  one: {dataset: visa, settings: one}
  two: {dataset: mvtec, settings: two}
download:
  visa: &drawn {source: embedded}
  mvtec: *drawn
splits:
  one: &strict
    strict: true

  # too
  two: *strict
calibration:
  one: &held
    share: 0.2
    false_positive_rate: 0.01
    seed: 0
  two: *held

features:
  one: &encoder
    encoder: mobilenetv2_100
  two:
    <<: *encoder
train:
  one: &model
    epochs: 3
  two: *model
score:
  one: &blur
    sigma: 2.0
  two: *blur
ablations: {}
"""


@pytest.fixture
def params_file(tmp_path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes((REPOSITORY / "params.yaml").read_bytes())
    return path


def odd_file(tmp_path: Path, text: str = ODD) -> Path:
    path = tmp_path / "odd.yaml"
    path.write_bytes(text.encode())
    return path


def added_lines(before: str, after: str) -> list[str]:
    """Return the lines that are new, after a check that no other line went or changed."""
    diff = list(difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True)))
    assert [line for line in diff if line[0] in "-?"] == []
    return [line[2:] for line in diff if line[0] == "+"]


def test_a_new_benchmark_only_adds_lines_and_each_behind_the_last_key_of_its_section(params_file):
    expected = params_file.read_text()
    assert add_benchmark(params_file, "leather", download=TABLE, splits=SPLITS) == "mvtec"
    download = "{source: path, path: /data/leather, table: data/import/leather.csv}"
    features = "    encoder: mobilenetv2_100\n    weights: packaged\n    image_size: 128\n    mode: store\n"
    epochs = yaml.safe_load(expected)["train"]["visa"]["epochs"]
    recipe = (
        f"    model: invad\n    epochs: {epochs}\n    batch_size: 8\n    learning_rate: 0.016\n    loss: local-cosine\n"
        "    standardised: true\n    style_channels: 32\n    blocks: 1\n"
    )
    several, one = "    seeds: [42, 43, 44]\n", "    seed: 42\n"  # of the new one a single training
    for visa, leather in (
        ("visa: {dataset: visa, settings: visa}", "leather: {dataset: leather, settings: leather}"),
        ("visa: {source: embedded, train_images: 40, test_images: 30, image_size: 192}", f"leather: {download}"),
        ("visa: {strict: true}", "leather: {seed: 0, test_share: 0.2}"),
        ("visa: {share: 0.1, false_positive_rate: 0.01, seed: 0}",) * 2,
        (f"visa:\n{features}",) * 2,
        (f"visa:\n{recipe}{several}", f"visa:\n{recipe}{one}"),
        ("visa: {sigma: 2.0}",) * 2,
    ):
        assert expected.count(f"  {visa.rstrip()}\n") == 1
        added = leather.replace("visa:", "leather:").rstrip()
        expected = expected.replace(f"  {visa.rstrip()}\n", f"  {visa.rstrip()}\n  {added}\n")
    assert params_file.read_text() == expected


def test_removing_it_gives_the_file_of_before_back(params_file):
    before = params_file.read_bytes()
    add_benchmark(params_file, "leather", download=TABLE, splits=SPLITS)
    remove_dataset(params_file, "leather", ["leather"])
    assert params_file.read_bytes() == before


def test_settings_that_another_benchmark_has_stay_when_a_data_set_is_removed(params_file):
    text = params_file.read_text()
    params_file.write_text(text.replace("{dataset: visa, settings: visa}", "{dataset: visa, settings: mvtec}"))
    remove_dataset(params_file, "mvtec", ["mvtec"])
    left = yaml.safe_load(params_file.read_text())
    assert list(left["download"]) == ["coco", "visa"]
    assert [list(left[section])[-3:] for section in ("splits", "score")] == [["coco", "mvtec", "visa"]] * 2
    remove_dataset(params_file, "coco", [f"coco_ad_{fold}" for fold in range(4)])
    assert list(load_params(params_file).benchmarks) == ["visa"]
    assert "coco" not in yaml.safe_load(params_file.read_text())["train"]
    # What stands before the next section is not removed with the last entry of this one.
    assert [line for line in params_file.read_text().splitlines() if line.startswith("#")] == [
        line for line in text.splitlines() if line.startswith("#")
    ]
    with pytest.raises(InputError, match=r"benchmarks\.visa: is the only one; another has to be there first"):
        remove_dataset(params_file, "visa", ["visa"])


def test_the_new_benchmark_is_read_back_as_given(params_file):
    add_benchmark(params_file, "leather", download=TABLE, splits={"seed": 3, "test_share": 0.5})
    params = load_params(params_file)
    benchmark, mvtec = params.benchmark("leather"), params.benchmark("mvtec")
    assert (benchmark.dataset, benchmark.splits.seed, benchmark.splits.test_share) == ("leather", 3, 0.5)
    assert (benchmark.features, benchmark.train, benchmark.score) == (mvtec.features, mvtec.train, mvtec.score)
    assert (params.dataset("leather").path, params.dataset("leather").table) == (TABLE["path"], TABLE["table"])


def test_the_settings_of_the_benchmark_that_is_named_are_copied(params_file):
    assert add_benchmark(params_file, "leather", download=TABLE, splits=SPLITS, like="coco_ad_2") == "coco_ad_2"
    assert load_params(params_file).benchmark("leather").train.epochs == 8  # mvtec has others


def test_with_nothing_but_coco_the_first_benchmark_is_copied(params_dict, write_params):
    for name in ("mvtec", "visa"):
        del params_dict["benchmarks"][name]
    path = write_params(params_dict)
    assert add_benchmark(path, "leather", download=TABLE, splits=SPLITS) == "coco_ad_0"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mvtec", {}, "benchmarks.mvtec: is there already; choose another name"),
        ("coco", {}, "download.coco: is there already; choose another name"),
        ("workers", {}, "score.workers: is there already; choose another name"),
        ("my leather", {}, "download"),
        ("leather", {"like": "wood"}, "unknown benchmark 'wood'"),
        ("leather", {"splits": {"folds": 0}}, "splits.leather.folds: unknown key"),
        ("leather", {"download": {"source": "path", "path": "/data"}}, "download.leather: unknown data set"),
    ],
)
@pytest.mark.slow
def test_what_would_not_be_valid_is_refused_and_the_file_stays(params_file, name, changes, message):
    before = params_file.read_bytes()
    with pytest.raises(InputError) as caught:
        add_benchmark(params_file, name, **{"download": TABLE, "splits": SPLITS, **changes})
    assert message in str(caught.value)
    assert "tmp:" not in str(caught.value)  # the temporary file is nobody's business
    assert "\n" not in str(caught.value)
    assert params_file.read_bytes() == before
    assert [path.name for path in params_file.parent.iterdir()] == ["params.yaml"]


def test_a_file_that_is_not_valid_is_an_error_before_anything_is_added(params_file):
    params_file.write_text(params_file.read_text().replace("epochs: 8", "epochs: eight"))
    for edit in (
        lambda: add_benchmark(params_file, "leather", download=TABLE, splits=SPLITS),
        lambda: update_download(params_file, "mvtec", {"source": "official"}),
    ):
        with pytest.raises(InputError, match=r"train\.coco\.epochs: must be a valid integer"):
            edit()


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "bom"])
def test_a_file_of_another_style_keeps_its_comments_order_and_indentation(tmp_path, newline, mark):
    path = odd_file(tmp_path, mark + ODD.replace("\n", newline))
    assert add_benchmark(path, "leather", download=TABLE, splits=SPLITS) == "one"
    after = path.read_bytes().decode()
    assert after.startswith(f"{mark}benchmarks:")
    assert after.count("\n") == after.count(newline)
    expected = {
        "'one': {dataset: visa, settings: recipe}  # mine\n": "    leather: {dataset: leather, settings: leather}\n",
        "visa: {source: embedded, seed: 0x1} # in braces\n": (
            "    leather: {source: path, path: /data/leather, table: data/import/leather.csv}\n"
        ),
        "        strict: true\n": "    leather: {seed: 0, test_share: 0.2}\n",
        "    recipe: {share: 0.0, false_positive_rate: 1.0e-2, seed: 0}\n": (
            "    leather: {share: 0.1, false_positive_rate: 0.01, seed: 0}\n"
        ),
        '        encoder: "mobilenetv2_100"\n        weights: packaged\n': (
            "    leather: {encoder: mobilenetv2_100, weights: packaged}\n"
        ),
        "        learning_rate: 4.0e-3  # tuned\n": "    leather: {epochs: 3, learning_rate: 0.004}\n",
        "        sigma: 2.0\n": "    leather: {sigma: 2.0}\n",
    }
    text = ODD
    for behind, lines in expected.items():
        text = text.replace(behind, behind + lines)
    assert without_indented_comments(after.replace("\r\n", "\n").removeprefix(mark)) == without_indented_comments(text)
    assert sorted(line.strip() for line in after.splitlines() if "#" in line) == sorted(
        line.strip() for line in ODD.splitlines() if "#" in line
    )


def without_indented_comments(text: str) -> str:
    """Those behind a section's last entry, which stay behind it."""
    return "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith(" ") or line.strip()[0] != "#"
    )


@pytest.mark.parametrize(
    "folder", ["C:\\data", "it's: #1", "müller/ß", "null", " a ", "- x", "{a}", "1e3", "a\tb", "~", "x" * 300]
)
def test_values_that_yaml_could_misread_come_back_unchanged(tmp_path, folder):
    path = odd_file(tmp_path)
    add_benchmark(path, "own", download={**TABLE, "path": folder}, splits=SPLITS)
    update_download(path, "visa", {"source": "path", "path": folder})
    params = load_params(path)
    assert params.dataset("own").path == params.dataset("visa").path == folder


@pytest.mark.parametrize("name", ["123", "on", "null"])
def test_a_name_that_yaml_would_read_as_something_else_is_quoted(tmp_path, name):
    path = odd_file(tmp_path)
    add_benchmark(path, name, download=TABLE, splits=SPLITS)
    assert load_params(path).benchmark(name).dataset == name


def test_an_updated_download_section_replaces_its_lines_and_no_other(params_file):
    text = params_file.read_text()
    old = "  mvtec: {source: embedded, train_images: 40, test_images: 30, image_size: 192}\n"
    block = "  mvtec:\n    source: official  # from now on\n    files:\n      bottle.tar.xz: /a\n      # and\n      cable.tar.xz: /b\n"
    assert old in text
    params_file.write_text(text.replace(old, block))
    official = {"source": "official", "store": "/store", "files": {"wood.tar.xz": "/w", "a b": "c"}}
    update_download(params_file, "mvtec", official)
    new = "  mvtec:\n    source: official\n    store: /store\n    files: {wood.tar.xz: /w, a b: c}\n"
    assert params_file.read_text() == text.replace(old, new)


def test_a_section_in_braces_stays_in_braces(tmp_path):
    path = odd_file(tmp_path)
    update_download(path, "visa", {"source": "path", "path": "/data/visa"})
    old, new = "{source: embedded, seed: 0x1} # in braces", "{source: path, path: /data/visa}"
    assert path.read_text() == ODD.replace(old, new)


def test_a_whole_section_in_braces_is_refused(tmp_path):
    text = ODD.replace("score:\n    recipe:\n        sigma: 2.0", "score: {recipe: {sigma: 2.0}}")
    path = odd_file(tmp_path, text)
    with pytest.raises(InputError, match="score: is written in braces; write its entries in lines of their"):
        add_benchmark(path, "leather", download=TABLE, splits=SPLITS)
    assert path.read_text() == text


def test_the_same_download_section_again_changes_nothing(params_file):
    before = params_file.read_bytes()
    update_download(params_file, "visa", yaml.safe_load(before)["download"]["visa"])
    assert params_file.read_bytes() == before


def test_a_download_section_that_is_not_valid_or_not_there_is_refused(params_file):
    before = params_file.read_bytes()
    with pytest.raises(InputError, match=r"unknown data set 'leather'; params\.yaml has coco, mvtec, visa"):
        update_download(params_file, "leather", TABLE)
    with pytest.raises(InputError, match=r"params\.yaml: download\.visa\.path: is needed with `source: path`"):
        update_download(params_file, "visa", {"source": "path"})
    assert params_file.read_bytes() == before


def test_behind_an_alias_the_new_key_comes_on_the_next_line(tmp_path):
    path = odd_file(tmp_path, ALIASES)
    add_benchmark(path, "leather", download=TABLE, splits=SPLITS)
    after = path.read_text()
    assert "\n  # too\n  two: *strict\n  leather: {seed: 0, test_share: 0.2}\n" in after
    assert "  two: *model\n  leather: {epochs: 3}\n" in after
    added_lines(ALIASES, after)


def test_an_alias_can_be_replaced_and_what_others_repeat_is_refused(tmp_path):
    path = odd_file(tmp_path, ALIASES)
    update_download(path, "mvtec", {"source": "official"})
    assert path.read_text() == ALIASES.replace("  mvtec: *drawn", "  mvtec: {source: official}")
    path = odd_file(tmp_path, ALIASES)
    with pytest.raises(InputError, match=r"odd\.yaml: not valid YAML: found undefined alias 'drawn' at line 6"):
        update_download(path, "visa", {"source": "official"})
    assert path.read_text() == ALIASES
