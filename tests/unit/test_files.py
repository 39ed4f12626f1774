import pytest

from invad.errors import InputError
from invad.files import atomic_path, read_json, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_folder_is_replaced_whole(tmp_path):
    for names in (["a", "b"], ["c"]):
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            for name in names:
                (temporary / name).touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_json_has_no_nan_and_a_broken_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert not (tmp_path / "a.json").exists()
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(InputError, match=r"b\.json: not valid JSON"):
        read_json(tmp_path / "b.json")
    with pytest.raises(InputError, match=r"c\.json: no such file"):
        read_json(tmp_path / "c.json")
