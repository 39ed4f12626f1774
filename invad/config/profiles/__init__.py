"""The settings that come with the package: `quick`, the default, and the recipes of the paper.

`quick.yaml` is a whole params.yaml; the others say what differs from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from invad.config import Params, dataset_kind, load_params
from invad.config.loading import NAMED_SECTIONS, parse_params
from invad.config.params_file import Keys, edit_settings, read_settings, write_settings
from invad.config.yaml_text import load_yaml
from invad.errors import InputError
from invad.files import atomic_path

# The files that a profile is made of, each over the one before.
PROFILES: Mapping[str, tuple[str, ...]] = {
    "quick": ("quick",),
    "paper": ("quick", "paper"),
    "paper-lite": ("quick", "paper", "paper-lite"),
}
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
    if name not in PROFILES:
        raise InputError(f"unknown profile {name!r}; known are {', '.join(PROFILES)}")
    text, *others = (read_settings(Path(__file__).parent / f"{file}.yaml") for file in PROFILES[name])
    for overrides in others:
        text = _with_overrides(text, overrides)
    title = [line for each in others[-1:] for line in takewhile(_is_comment, each.splitlines(keepends=True))]
    return "".join(title) + text.partition("\n")[2] if title else text


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
    user = _settings(read_settings(path), load_params(path))
    nearest = min(map(_profile, PROFILES), key=lambda shipped: len(_edits(user, shipped)))
    edits = _edits(user, nearest)
    kept = _kept(user, nearest)
    text = _with_kept(profile, kept)
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
    if force or _with_kept(nearest, kept) != user.text:
        backup = _back_up(path)
    write_settings(path, text)
    return UseReport(changed=True, kept=[".".join(keys) for keys in kept if keys[2:] != ("source",)], backup=backup)


def _with_overrides(base: str, overrides: str) -> str:
    """Return the text `base` with other settings, merged by name; a data set is replaced, since nothing of another source is of use."""
    settings = load_yaml(base)
    edits: dict[Keys, Any] = {}
    for section, named in load_yaml(overrides).items():
        for name, values in named.items():
            edits[section, name] = values if section == "download" else settings[section][name] | values
    return edit_settings(base, edits)


def _is_comment(line: str) -> bool:
    return line.startswith("#")


@cache
def _profile(name: str) -> _Settings:
    text = profile_text(name)
    return _settings(text, parse_params(text, name))


def _settings(text: str, params: Params) -> _Settings:
    return _Settings(text, load_yaml(text), _values(params))


def _values(params: Params) -> dict[str, Any]:
    """Return all values with defaults, of data sets and benchmarks of one's own none."""
    download = {name: asdict(config) for name, config in params.download.items() if dataset_kind(name) != "table"}
    benchmarks = {name: asdict(config) for name, config in params.benchmarks.items() if config.dataset in download}
    entries = {
        name: {"dataset": config["dataset"], "settings": config["settings"], "fold": config["splits"].pop("fold", None)}
        for name, config in benchmarks.items()
    }
    sections: dict[str, dict[str, Any]] = {
        section: {config["settings"]: config[section] for config in benchmarks.values()} for section in NAMED_SECTIONS
    }
    sections["features"] |= asdict(params.extraction)
    sections["train"] |= asdict(params.training)
    studies = {
        "ablations": {name: asdict(config) for name, config in params.ablations.items()},
        "tune": asdict(params.tune),
    }
    return {"benchmarks": entries, "download": download, **sections, **studies}


def _kept(user: _Settings, nearest: _Settings) -> dict[Keys, Any]:
    """Return what a profile takes over from the user: the user's own, not what `nearest` says as well."""
    kept: dict[Keys, Any] = {}
    own = []
    for dataset, section in user.data["download"].items():
        if dataset_kind(dataset) == "table":
            own.append(dataset)
            kept["download", dataset] = section
            continue
        keys = ("source", "path", *_ACCESS_KEYS) if section["source"] == "path" else _ACCESS_KEYS
        shipped = nearest.data["download"][dataset]
        kept |= {
            ("download", dataset, key): section[key]
            for key in keys
            if key in section and section[key] != shipped.get(key)
        }
    for benchmark, entry in user.data["benchmarks"].items():
        if entry["dataset"] in own:
            kept["benchmarks", benchmark] = entry
            kept |= {(section, entry["settings"]): user.data[section][entry["settings"]] for section in NAMED_SECTIONS}
    return kept


def _with_kept(profile: _Settings, kept: Mapping[Keys, Any]) -> str:
    """Return the text of `profile` with the settings in `kept`."""
    edits: dict[Keys, Any] = {}
    for (section, name, *key), value in kept.items():
        if not key:
            edits[section, name] = value
        elif key[0] == "source":  # nothing of the profile's own source is left
            edits[section, name] = {"source": value}
        else:
            edits[section, name] = {**edits.get((section, name), profile.data[section][name]), key[0]: value}
    return edit_settings(profile.text, edits)


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
