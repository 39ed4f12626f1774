"""The settings that come with the package: `quick.yaml` is a whole params.yaml, the others say what differs from it."""

from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from invad.config.loading import NAMED_SECTIONS, load_params, load_yaml
from invad.config.params_file import Entry, edit_settings, read_settings, write_settings
from invad.config.sections import dataset_kind
from invad.errors import InputError
from invad.files import write_text

_METHODS = ("rd", "patchcore", "simplenet", "uniad", "dinomaly", "draem", "destseg", "mvad", "tocoad")
# The files that a profile is made of, each over the one before.
PROFILES: Mapping[str, tuple[str, ...]] = {
    "quick": ("quick",),
    "paper": ("quick", "paper"),
    "paper-lite": ("quick", "paper", "paper-lite"),
    "all": ("quick", "all"),
    **{f"paper-{method}": ("quick", "paper", f"paper-{method}") for method in _METHODS},
    "paper-short": ("quick", "paper", "paper-short"),
}


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
    lines = others[-1].splitlines(keepends=True) if others else []
    title = list(takewhile(lambda line: line.startswith("#"), lines))
    return "".join(title) + text.partition("\n")[2] if title else text


def use_profile(name: str, path: Path) -> tuple[list[str], Path | None]:
    """Make profile `name` the settings in `path`; return what was taken over, and the old file, kept as `.bak`, `.bak2` and so on.

    Taken over are data sets with `source: path`, those with `source: official` where the profile has that too, and the user's own with
    their benchmarks. `InputError`: there is no such profile, or the settings in `path` are not valid.
    """
    profile = profile_text(name)
    if not path.exists():
        write_settings(path, profile)
        return [], None
    load_params(path)
    before = read_settings(path)
    kept = _kept(load_yaml(before), load_yaml(profile))
    text = edit_settings(profile, kept)
    if text == before:
        return [], None
    backups = (path.with_name(f"{path.name}.bak{number if number > 1 else ''}") for number in count(1))
    backup = next(each for each in backups if not each.exists())
    write_text(backup, before)
    write_settings(path, text)
    return [".".join(entry) for entry in kept], backup


def _with_overrides(base: str, overrides: str) -> str:
    """Return the text `base` with other settings, merged by name; another source of data, and another method, replaces what there was."""
    settings = load_yaml(base)
    edits: dict[Entry, Any] = {}
    for section, named in load_yaml(overrides).items():
        for name, values in named.items():
            replaced = section == "download" or "model" in values
            edits[section, name] = values if replaced else settings[section].get(name, {}) | values
    return edit_settings(base, edits)


def _kept(user: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[Entry, Any]:
    """Return the entries of the user's settings that a profile takes over: nothing that it says itself."""
    sources = {
        dataset: ("path", "official" * (each["source"] == "official")) for dataset, each in profile["download"].items()
    }
    kept: dict[Entry, Any] = {
        ("download", dataset): section
        for dataset, section in user["download"].items()
        if section["source"] in sources.get(dataset, ("path",)) and section != profile["download"].get(dataset)
    }
    for benchmark, entry in user["benchmarks"].items():
        if dataset_kind(entry["dataset"]) == "table":
            kept["benchmarks", benchmark] = entry
            kept |= {(section, entry["settings"]): user[section][entry["settings"]] for section in NAMED_SECTIONS}
    return kept
