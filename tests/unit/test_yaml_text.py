"""Settings are read as DVC reads them, and a hostile file is refused in a line."""

import math

import pytest
from conftest import refusal

from invad.config import load_params
from invad.config.loading import load_yaml
from invad.config.params_file import edit_settings
from invad.studies.study import parse_set

NUMBERS = {
    "5e-05": 5e-05, "4e-3": 0.004, "1.5e3": 1500.0, "5E-5": 5e-05, "-1.": -1.0, ".5": 0.5, "+3": 3, "007": 7, "0x1F": 31, "1_000": 1000,
    ".inf": math.inf, "-.INF": -math.inf, "0b11": 3, "-0o17": -15, "1_0.5_0": 10.5, "1_0e3": 10_000.0,
    "True": True, "false": False, "null": None, "~": None, "": None,
}  # fmt: skip
TEXTS = ("yes", "no", "on", "12:30:00", "1e3x", "e5", "-x", "1.2.3")


@pytest.mark.parametrize(("text", "value"), [*NUMBERS.items(), *((text, text) for text in TEXTS)])
def test_plain_values_are_those_of_yaml_1_2(text, value):
    read = load_yaml(f"key: {text}")["key"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("name", ["5e-05", "1e3", "0x1F", "true", "null", "12"])
def test_a_name_that_reads_as_a_number_is_written_in_quotes(name):
    assert load_yaml(edit_settings("a:\n  b: c\n", {("a", "b"): {"c": name}})) == {"a": {"b": {"c": name}}}
    assert load_yaml(edit_settings("a:\n  b: c\n", {("a", name): {"d": 1}})) == {"a": {"b": "c", name: {"d": 1}}}


@pytest.mark.parametrize(("text", "value"), [("5e-05", 5e-05), ("0.00005", 5e-05), ("4e-3", 4e-3), ("3", 3)])
def test_the_option_set_and_the_file_take_the_same_numbers(params_dict, write_params, text, value):
    assert parse_set([f"train.learning_rate={text}"]) == {"train.learning_rate": value}
    path = write_params(params_dict)
    path.write_text(path.read_text().replace("learning_rate: 0.016", f"learning_rate: {text}"))
    assert load_params(path).benchmark("mvtec").train.learning_rate == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "unknown section 'a'"),
        ("train: &a {b: *a}", "download: this section is missing"),
        ("[" * 5000, "not valid YAML: "),
        ("a: " + "9" * 5000, "not valid YAML: "),
        (
            "a: !!python/name:os.system x",
            "not valid YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system' at line 1, column 4",
        ),
        ("a: 0x_", "not valid YAML: invalid literal for int() with base 16: ''"),
        ("a: 2026-02-30", "not valid YAML: day is out of range for month"),
        ("train: 1\ntrain: 2", 'not valid YAML: found duplicate key "train"'),
    ],
)
def test_a_hostile_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert refusal(load_params, path).startswith(message)


def test_aliases_and_merged_keys_are_taken():
    text = "base: &base {epochs: 3, seed: 1}\nmvtec:\n  <<: *base\n  epochs: 5\nvisa: *base\n"
    assert load_yaml(text) == {
        "base": {"epochs": 3, "seed": 1}, "mvtec": {"epochs": 5, "seed": 1}, "visa": {"epochs": 3, "seed": 1}
    }  # fmt: skip
