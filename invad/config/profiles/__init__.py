"""The settings that come with the package: `quick`, the default, and the recipes of the paper.

`quick.yaml` is a whole params.yaml; the others say what differs from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from invad.config.loading import NAMED_SECTIONS, load_params, load_yaml
from invad.config.params_file import Entry, edit_settings, read_settings, write_settings
from invad.config.sections import dataset_kind
from invad.errors import InputError
from invad.files import write_text

# The files that a profile is made of, each over the one before.
PROFILES: Mapping[str, tuple[str, ...]] = {
    "quick": ("quick",),
    "paper": ("quick", "paper"),
    "paper-lite": ("quick", "paper", "paper-lite"),
}
# How a user gets at the official data: carried from profile to profile.
_ACCESS_KEYS = ("accept_license", "images", "files", "store", "keep_archives")
_NAMED_EDITS = 8


@dataclass(frozen=True)
class UseReport:
    """What `use_profile` did: whether it wrote, which of the user's settings it kept, as dotted keys, and where the old file is kept."""

    changed: bool
    kept: list[str]
    backup: Path | None = None


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
    profile = profile_text(name)
    if not path.exists():
        write_settings(path, profile)
        return UseReport(changed=True, kept=[])
    load_params(path)
    user = read_settings(path)
    data = load_yaml(user)
    # What the file would be if nothing but what is kept had been edited, by the profile that is nearest to it.
    candidates = [_with_what_is_kept(shipped, data) for shipped in PROFILES]
    nearest, kept = min(candidates, key=lambda each: len(_differences(data, load_yaml(each[0]))))
    text = _with_kept(profile, kept)
    edits = _differences(data, load_yaml(nearest))
    if text == user or (text == nearest and not edits and not force):
        return UseReport(changed=False, kept=[])
    lost = [key for key in edits if key in _differences(data, load_yaml(text))]
    if lost and not force:
        more = f" and {len(lost) - _NAMED_EDITS} more" if len(lost) > _NAMED_EDITS else ""
        raise InputError(
            f"{path}: profile {name} would overwrite your edits of {', '.join(lost[:_NAMED_EDITS])}{more}; "
            "--force does it and keeps the old file beside the new one"
        )
    backup = _back_up(path) if force or nearest != user else None
    write_settings(path, text)
    return UseReport(changed=True, kept=[".".join(keys) for keys in kept if keys[2:] != ("source",)], backup=backup)


def _with_overrides(base: str, overrides: str) -> str:
    """Return the text `base` with other settings, merged by name; a data set is replaced, since nothing of another source is of use."""
    settings = load_yaml(base)
    edits: dict[Entry, Any] = {}
    for section, named in load_yaml(overrides).items():
        for name, values in named.items():
            edits[section, name] = values if section == "download" else settings[section][name] | values
    return edit_settings(base, edits)


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def _kept(user: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return what a profile takes over from the user: the user's own, not what `profile` says as well."""
    kept: dict[tuple[str, ...], Any] = {}
    own = []
    for dataset, section in user["download"].items():
        if dataset_kind(dataset) == "table":
            own.append(dataset)
            kept["download", dataset] = section
            continue
        keys = ("source", "path", *_ACCESS_KEYS) if section["source"] == "path" else _ACCESS_KEYS
        shipped = profile["download"][dataset]
        kept |= {
            ("download", dataset, key): section[key]
            for key in keys
            if key in section and section[key] != shipped.get(key)
        }
    for benchmark, entry in user["benchmarks"].items():
        if entry["dataset"] in own:
            kept["benchmarks", benchmark] = entry
            kept |= {(section, entry["settings"]): user[section][entry["settings"]] for section in NAMED_SECTIONS}
    return kept


def _with_what_is_kept(profile: str, user: Mapping[str, Any]) -> tuple[str, dict[tuple[str, ...], Any]]:
    text = profile_text(profile)
    kept = _kept(user, load_yaml(text))
    return _with_kept(text, kept), kept


def _with_kept(profile: str, kept: Mapping[tuple[str, ...], Any]) -> str:
    """Return the text of a profile with the settings in `kept`."""
    data = load_yaml(profile)
    edits: dict[Entry, Any] = {}
    for (section, name, *key), value in kept.items():
        if not key:
            edits[section, name] = value
        elif key[0] == "source":  # nothing of the profile's own source is left
            edits[section, name] = {"source": value}
        else:
            edits[section, name] = {**edits.get((section, name), data[section][name]), key[0]: value}
    return edit_settings(profile, edits)


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys whose values differ, or that one of the two has alone."""
    found = []
    for key in dict.fromkeys([*one, *other]):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [f"{key}.{inner}" for inner in _differences(a, b)]
        elif a != b:
            found.append(key)
    return found


def _back_up(path: Path) -> Path:
    """Copy `path` to `<name>.bak`, or `.bak2` and so on, never over an older one."""
    candidates = (path.with_name(f"{path.name}.bak{number if number > 1 else ''}") for number in count(1))
    backup = next(candidate for candidate in candidates if not candidate.exists())
    write_text(backup, read_settings(path))
    return backup
