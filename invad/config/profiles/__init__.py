"""The settings that come with the package: `quick`, the default, and the recipes of the paper. Each is a whole params.yaml."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from invad.config import Params, dataset_kind, load_params
from invad.config.params_file import Keys, edit_settings, read_settings, write_settings
from invad.config.yaml_text import load_yaml
from invad.errors import InputError
from invad.files import atomic_path

PROFILES = ("quick", "paper", "paper-lite")
_BENCHMARK_SECTIONS = ("splits", "calibration", "features", "train", "score")
# How a user gets at the official data: carried from profile to profile.
_ACCESS_KEYS = ("accept_license", "images", "classes", "files", "store", "keep_archives")
_NAMED_EDITS = 8


@dataclass(frozen=True)
class UseReport:
    """What `use_profile` did.

    Attributes:
        changed: False when the settings were this profile's already and nothing was written.
        kept: the user's settings that were carried over, as dotted keys.
        backup: the file that holds the old settings, or None where a profile gives them back to the byte.
    """

    changed: bool
    kept: list[str]
    backup: Path | None = None


@dataclass(frozen=True)
class _Settings:
    """A params.yaml: its text, that as plain data, and all values with defaults but without the data sets of one's own."""

    text: str
    data: dict[str, Any]
    values: dict[str, Any]


def list_profiles() -> list[tuple[str, str]]:
    """Return name and description, the first comment line, of every profile."""
    return [(name, profile_text(name).split("\n")[0].removeprefix("#").strip()) for name in PROFILES]


def profile_text(name: str) -> str:
    """Return the params.yaml of a profile; `InputError` when there is none of that name."""
    return read_settings(_file(name))


def use_profile(name: str, path: Path, force: bool = False) -> UseReport:
    """Make profile `name` the settings in `path`.

    Kept are `source: path` with its folder, how the official data are got (`accept_license`, `files`, `store` and the like) and the
    user's own data sets with their benchmarks. Other edits are overwritten only with `force`. The old file stays beside the new one
    with `force`, and whenever a comment or anything else in it is not a profile's.

    Raises:
        InputError: There is no such profile, the settings in `path` are not valid, or edits would be lost; it names them.
    """
    profile = _profile(name)
    if not path.exists():
        write_settings(path, profile.text)
        return UseReport(changed=True, kept=[])
    user = _read(path)
    nearest = min(map(_profile, PROFILES), key=lambda shipped: len(_edits(user, shipped)))
    edits = _edits(user, nearest)
    kept = _kept(user, nearest)
    text = _with_kept(profile, kept, path)
    if text == user.text or (profile is nearest and not edits and not force):
        return UseReport(changed=False, kept=[])
    lost = [key for key in edits if key in _edits(user, profile)]
    if lost and not force:
        more = f" and {len(lost) - _NAMED_EDITS} more" if len(lost) > _NAMED_EDITS else ""
        raise InputError(
            f"{path}: profile {name} would overwrite your edits of {', '.join(lost[:_NAMED_EDITS])}{more}; "
            "--force does it and keeps the old file beside the new one"
        )
    backup = None
    if force or _with_kept(nearest, kept, path) != user.text:
        backup = _back_up(path)
    write_settings(path, text)
    return UseReport(changed=True, kept=[".".join(keys) for keys in kept if keys[2:] != ("source",)], backup=backup)


def _file(name: str) -> Path:
    if name not in PROFILES:
        raise InputError(f"unknown profile {name!r}; known are {', '.join(PROFILES)}")
    return Path(__file__).parent / f"{name}.yaml"


@cache
def _profile(name: str) -> _Settings:
    return _read(_file(name))


def _read(path: Path) -> _Settings:
    values = _values(load_params(path))
    text = read_settings(path)
    return _Settings(text, load_yaml(text), values)


def _values(params: Params) -> dict[str, Any]:
    download = {name: asdict(config) for name, config in params.download.items() if dataset_kind(name) != "table"}
    benchmarks = {name: asdict(config) for name, config in params.benchmarks.items() if config.dataset in download}
    sections: dict[str, dict[str, Any]] = {
        section: {name: config[section] for name, config in benchmarks.items()} for section in _BENCHMARK_SECTIONS
    }
    sections["features"] |= asdict(params.extraction)
    sections["train"] |= asdict(params.training)
    names = {name: config["dataset"] for name, config in benchmarks.items()}
    studies = {
        "ablations": {name: asdict(config) for name, config in params.ablations.items()},
        "tune": asdict(params.tune),
    }
    return {"benchmarks": names, "download": download, **sections, **studies}


def _kept(user: _Settings, nearest: _Settings) -> dict[Keys, Any]:
    """Return what a profile takes over from the user: the user's own, not what `nearest` says as well."""
    kept: dict[Keys, Any] = {}
    own = []
    for dataset, section in user.data["download"].items():
        if dataset_kind(dataset) == "table":
            own.append(str(dataset))  # an unquoted 2024 is a number here, but a name where a benchmark refers to it
            kept["download", str(dataset)] = section
            continue
        keys = ("source", "path", *_ACCESS_KEYS) if section["source"] == "path" else _ACCESS_KEYS
        shipped = nearest.data["download"][dataset]
        kept |= {
            ("download", dataset, key): section[key]
            for key in keys
            if key in section and section[key] != shipped.get(key)
        }
    for benchmark, dataset in user.data["benchmarks"].items():
        if dataset in own:
            kept |= {
                (section, benchmark): user.data[section][benchmark] for section in ("benchmarks", *_BENCHMARK_SECTIONS)
            }
    return kept


def _with_kept(profile: _Settings, kept: Mapping[Keys, Any], path: Path) -> str:
    """Return the text of `profile` with the settings in `kept`; `path` is what an error names."""
    edits: dict[Keys, Any] = {}
    for (section, name, *key), value in kept.items():
        if not key:
            edits[section, name] = value
        elif key[0] == "source":  # nothing of the profile's own source is left
            edits[section, name] = {"source": value}
        else:
            edits[section, name] = {**edits.get((section, name), profile.data[section][name]), key[0]: value}
    return edit_settings(profile.text, edits, path)


def _edits(user: _Settings, profile: _Settings) -> list[str]:
    """Return the dotted keys whose values differ, without those that a profile takes over."""
    differences = _differences(user.values, profile.values)
    return [".".join(keys) for keys in differences if not _is_taken_over(user, keys)]


def _is_taken_over(user: _Settings, keys: Keys) -> bool:
    if keys[0] != "download" or len(keys) < 3:
        return False
    section = user.data["download"][keys[1]]
    return section["source"] == "path" or (keys[2] in _ACCESS_KEYS and keys[2] in section)


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Keys]:
    for key in dict.fromkeys([*one, *other]):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from ((key, *keys) for keys in _differences(a, b))
        elif a != b:
            yield (key,)


def _back_up(path: Path) -> Path:
    """Copy `path` to `<name>.bak`, or `.bak2` and so on, never over an older one."""
    candidates = (path.with_name(f"{path.name}.bak{number if number > 1 else ''}") for number in count(1))
    backup = next(candidate for candidate in candidates if not candidate.exists())
    with atomic_path(backup) as temporary:
        temporary.write_bytes(path.read_bytes())
    return backup
