"""The message of a mistake is one line that can be seen, whatever a name or a library brings into it."""

import pickle

import pytest

from invad.errors import InputError


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a.png: no such image", "a.png: no such image"),
        ("a.parquet: not a table (what type: \x0f\n)", r"a.parquet: not a table (what type: \x0f )"),
        ("one\r\n  two\n\nthree\n", "one two three"),
        ("\x1b[31mred\u202e.png \udcff\0", r"\x1b[31mred\u202e.png \udcff\x00"),
        ("müller/ß/部品.png", "müller/ß/部品.png"),
    ],
)
def test_the_message_is_one_line_without_control_characters(message, line):
    assert str(InputError(message)) == line
    assert str(pickle.loads(pickle.dumps(InputError(message)))) == line


def test_a_message_that_is_far_too_long_keeps_its_ends():
    line = str(InputError(f"params.yaml: {'x' * 10_000}: expected a number"))
    assert len(line) == 2000
    assert line.startswith("params.yaml: xxx") and line.endswith("xxx: expected a number") and "x ... x" in line
