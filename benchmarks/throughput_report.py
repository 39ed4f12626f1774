"""What `throughput.py` measured, as JSON and for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardware import hardware_line
from results import DASH, markdown_table, number
from workload import HEIGHT, WIDTH

from invad.files import write_json, write_text

BLUR_TOLERANCE = 1e-5
PARTS = ("decode", "encoder", "reading", "method", "blur", "masks", "writing")
METHODS = {"invad": "InvAD-lite", "rd": "RD"}
COLUMNS = {
    "seconds": "Seconds",
    "start_s": "of which start",
    "images_per_s": "Images/s",
    "images_per_s_after_start": "Images/s after the start",
}
Result = Mapping[str, Any]


def write_report(path: Path, result: Result) -> str:
    """Write `<path>.json` and `<path>.md`; return the text of the latter."""
    settings = result["settings"]
    size, method = settings["image_size"], METHODS[settings["model"]]
    paragraphs = [
        f"# Throughput of {settings['encoder']} and {method}, {size}x{size} pixels, batch {settings['batch']}, {settings['device']}",
        f"Hardware: {hardware_line(result['hardware'])}.",
        f"Made by `{result['command']}`.",
        f"The images are generated JPEGs of {WIDTH}x{HEIGHT} pixels, all weights are random. Files lie in the system's cache. Times are "
        f"medians ({settings['rounds']} rounds, in which the ways of a table take turns).",
        "## Extraction",
        f"From JPEGs to stored features, {settings['extracted']} images. The plain loop does one thing after the other; the stage decodes "
        "with all cores, and ahead where a GPU computes or torch leaves a core. The start is the time in which the plain loop builds its "
        "encoder, and the stage's time for nothing but one image for each worker.",
        _speeds(result["extraction"], ("seconds", "start_s", "images_per_s", "images_per_s_after_start")),
        *_ray(result["ray"], settings["workers"]),
        "## Scoring",
        "From stored features, or from JPEGs through the encoder (live), to the files of the anomaly maps, "
        f"{settings['images']} images, with loading the model and building a live encoder. The stage reads or decodes ahead where a GPU "
        "computes or torch leaves a core. The precision is that of the method and of a live encoder; stored features are float16 of a "
        "float32 encoder.",
        _speeds(result["scoring"], ("seconds", "images_per_s")),
        "## Shares of the time in percent",
        "Of the plain loops after their start. The parts are timed one after the other. Method: its network, distances and "
        "upsampling; masks: decoding and resizing (every other image has one).",
        _shares(result),
        "## Blur",
        _blur(result["blur"], settings["batch"]),
        "## Effect of precision on the maps",
        "Difference from the maps that are float32 throughout, divided by the standard deviation of these; one batch, random weights.",
        _effects(result["maps"]),
    ]
    text = "\n\n".join(paragraphs) + "\n"
    write_json(path.with_name(f"{path.name}.json"), result)
    write_text(path.with_name(f"{path.name}.md"), text)
    return text


def _speeds(rows: list[Result], keys: tuple[str, ...]) -> str:
    cells = [[f"{row['way']}, {row['precision']}", *(number(row[key]) for key in keys)] for row in rows]
    return "\n".join(markdown_table([["Way", *(COLUMNS[key] for key in keys)], *cells]))


def _ray(ray: Result | None, workers: int) -> list[str]:
    """What is claimed of Ray, and whether it holds."""
    if ray is None:
        return []
    return [
        f"{workers} workers of Ray share the threads. Claim: on one machine they are not slower than the plain loop by more than their "
        f"start. They take {ray['slower_s']:+.1f} s, their start takes {ray['start_s']:.1f} s (Ray itself, with nothing to do: "
        f"{ray['idle_s']:.1f} s): the claim {'holds' if ray['holds'] else 'does NOT hold'}."
    ]


def _shares(result: Result) -> str:
    loops = [
        (f"{task}: {row['way']}, {row['precision']}", row["shares"])
        for task in ("extraction", "scoring")
        for row in result[task]
        if row["way"].startswith("plain loop")
    ]
    cells = [[loop, *(_percent(shares.get(part)) for part in PARTS)] for loop, shares in loops]
    return "\n".join(markdown_table([["Loop", *(part.capitalize() for part in PARTS)], *cells]))


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.1f}"


def _blur(blur: Result, batch: int) -> str:
    device, scipy, difference = 1000 * blur["device_s"], 1000 * blur["scipy_s"], blur["largest_difference"]
    verdict = "below" if difference < BLUR_TOLERANCE else "NOT below"
    return (
        f"The Gaussian blur of {batch} maps takes {number(device)} ms on the device and {number(scipy)} ms by scipy on the CPU; "
        f"they differ by {number(difference, 2)} at most, {verdict} {BLUR_TOLERANCE:g}."
    )


def _effects(rows: list[Result]) -> str:
    cells = [[row["what"], number(row["largest"], 2), number(row["mean"], 2)] for row in rows]
    return "\n".join(markdown_table([("Changed", "Largest", "Mean"), *cells]))
