"""The settings that come with the package: `quick`, the default, and the recipes of the paper.

`quick.yaml` is a whole params.yaml; the others say what differs from it.
"""

from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from invad.config.loading import NAMED_SECTIONS, load_params, load_yaml
from invad.config.params_file import Entry, edit_settings, read_settings, write_settings
from invad.config.sections import dataset_kind
from invad.errors import InputError
from invad.files import write_text

_METHODS = ("rd", "patchcore", "simplenet", "uniad", "dinomaly")
# The files that a profile is made of, each over the one before.
PROFILES: Mapping[str, tuple[str, ...]] = {
    "quick": ("quick",),
    "paper": ("quick", "paper"),
    "paper-lite": ("quick", "paper", "paper-lite"),
    **{f"paper-{method}": ("quick", "paper", f"paper-{method}") for method in _METHODS},
}
# How a user gets at the official data: carried from profile to profile.
_ACCESS_KEYS = ("accept_license", "images", "files", "store", "keep_archives")


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


def use_profile(name: str, path: Path) -> tuple[list[str], Path | None]:
    """Make profile `name` the settings in `path`, and keep the old file beside it as `<name>.bak`, `.bak2` and so on.

    Taken over are `source: path` with its folder, how the official data are got (`accept_license`, `files`, `store` and the like) and the
    user's own data sets with their benchmarks: returned are their dotted keys, and the old file, None where nothing had to be written.
    `InputError`: there is no such profile, or the settings in `path` are not valid.
    """
    profile = profile_text(name)
    if not path.exists():
        write_settings(path, profile)
        return [], None
    load_params(path)
    before = read_settings(path)
    kept = _kept(load_yaml(before))
    text = _with_kept(profile, kept)
    if text == before:
        return [], None
    backups = (path.with_name(f"{path.name}.bak{number if number > 1 else ''}") for number in count(1))
    backup = next(each for each in backups if not each.exists())
    write_text(backup, before)
    write_settings(path, text)
    return [".".join(keys) for keys in kept if keys[2:] != ("source",)], backup


def _with_overrides(base: str, overrides: str) -> str:
    """Return the text `base` with other settings, merged by name; another source of data, and another method, replaces what there was."""
    settings = load_yaml(base)
    edits: dict[Entry, Any] = {}
    for section, named in load_yaml(overrides).items():
        for name, values in named.items():
            replaced = section == "download" or "model" in values
            edits[section, name] = values if replaced else settings[section][name] | values
    return edit_settings(base, edits)


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def _kept(user: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return what a profile takes over from the user's settings, by keys: nothing that a profile itself says."""
    shipped = [load_yaml(profile_text(name))["download"] for name in PROFILES]
    kept: dict[tuple[str, ...], Any] = {}
    for dataset, section in user["download"].items():
        if dataset_kind(dataset) == "table":
            kept["download", dataset] = section
            continue
        keys = ("source", "path", *_ACCESS_KEYS) if section["source"] == "path" else _ACCESS_KEYS
        for key in keys:
            if key in section and all(section[key] != profile[dataset].get(key) for profile in shipped):
                kept["download", dataset, key] = section[key]
    for benchmark, entry in user["benchmarks"].items():
        if ("download", entry["dataset"]) in kept:
            kept["benchmarks", benchmark] = entry
            kept |= {(section, entry["settings"]): user[section][entry["settings"]] for section in NAMED_SECTIONS}
    return kept


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
