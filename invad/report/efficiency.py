"""The table of what the models cost: sizes, and speeds measured by the scripts in `benchmarks`, beside the published ones."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from invad.report.cells import lines
from invad.report.labels import METHODS, Metric
from invad.report.published import SOURCES, PublishedCost, published_costs
from invad.report.results import Result
from invad.report.tables import Cell, Note, Row, Table, caption

COLUMNS = (
    Metric("parameters", "", "Parameters (M)", "Parameters of encoder and method, in millions.", "millions", None),
    Metric("trainable", "", "Trained (M)", "Parameters that training changes, in millions.", "millions", None),
    Metric("multiply_adds", "", "Multiply-adds (G)", "Multiply-adds for one image, in thousand millions.", "giga", None),
    Metric("step_s", "", "Step (ms)", "Time of one optimiser step, in milliseconds.", "milliseconds", None),
    Metric("images_per_s", "", "Images/s", "Images per second.", "number", None),
    Metric("peak_mb", "", "Peak memory (MB)", "Most memory held at once, in megabytes.", "number", None),
)  # fmt: skip
SIZE, SPEED = COLUMNS[:3], COLUMNS[3:]
STAGE = "stage, "  # begins the ways of the pipeline's own stages
STEP, EXTRACTION, SCORING = "training step", "extraction", "scoring"
MEANING = (
    "Size: parameters and multiply-adds for one image, of encoder and method together (convolutions and matrix products are counted). "
    'Speed: of what the column "Of what" says, on the hardware named in the row; the footnote has the command and the whole '
    "description of the machine. Rows of different hardware, batch or input are not comparable."
)
VARIANTS = "Training steps: naive is the same network in the style of StyleGAN2, weights repeated for each image; ours is this package."
MEMORY = {
    "cpu": "Peak memory of the whole process.",
    "cuda": "Peak memory of torch's allocations on the GPU.",
}


def efficiency_table(results: Sequence[Result], measurements: Sequence[Mapping[str, Any]] = ()) -> Table:
    """Sizes of the models at hand, measured speeds, and published numbers.

    measurements: contents of `training_step_*.json` and `throughput_*.json` of reports/benchmarks, in any order; others are left out.
    """
    steps = [row for found in _of_kind(measurements, "training step") for row in _step_rows(found)]
    throughput = [row for found in _of_kind(measurements, "throughput") for row in _throughput_rows(found)]
    return Table(
        title="Efficiency",
        caption=caption(
            (
                MEANING,
                VARIANTS if steps else "",
                f'Rows "published: {SOURCES["rerun"].label}" quote {SOURCES["rerun"].citation}, and its code.',
            )
        ),
        heads=("Method", "Of what", "Setting", "Hardware", "Source"),
        columns=COLUMNS,
        rows=(*_model_rows(results), *steps, *throughput, *(_published_row(cost) for cost in published_costs())),
    )


def _of_kind(measurements: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return sorted(
        (found for found in measurements if found.get("benchmark") == kind), key=lambda found: found["command"]
    )


def _model_rows(results: Sequence[Result]) -> Iterator[Row]:
    """A row of each distinct model, wherever it was trained."""
    seen = set()
    for result in (line.first for line in lines(results)):
        size, cost = result.config.features.image_size, result.cost
        if (result.label, size, cost) in seen:
            continue
        seen.add((result.label, size, cost))
        missing = Cell(None, (Note("not_counted"),))
        cells = {column.key: missing if cost is None else Cell(getattr(cost, column.key)) for column in SIZE}
        yield _row((result.label, "model", _pixels(size), "", "measured"), cells, result.method or "", "model")


def _step_rows(found: Mapping[str, Any]) -> Iterator[Row]:
    settings = found["settings"]
    network = settings["network"]
    setting = f"{_pixels(settings['image_size'])}, batch {settings['batch']}"
    for name, values in found["variants"].items():
        missing = (
            Cell(None, (_words(f"{values['label']}: {values['reason']}."),)) if "reason" in values else Cell(text="")
        )
        cells = {
            column.key: missing if values.get(column.key) is None else Cell(values[column.key]) for column in SPEED
        }
        if cells["peak_mb"].value is not None and settings["device"] in MEMORY:
            cells["peak_mb"] = Cell(cells["peak_mb"].value, (_words(MEMORY[settings["device"]]),))
        words = (METHODS.get(network, network), STEP, f"{setting}, {values['label']}", _hardware(found["hardware"]))
        yield _row((*words, "measured"), cells, network, STEP, name, _command(found))


def _throughput_rows(found: Mapping[str, Any]) -> Iterator[Row]:
    settings = found["settings"]
    method = "invad-lite" if settings["model"] == "invad" else settings["model"]  # the only InvAD that the script has
    method_words = f"{METHODS.get(method, method)} ({settings['encoder']})"
    for task, label in ((EXTRACTION, settings["encoder"]), (SCORING, method_words)):
        for values in found[task]:
            way = values["way"].removeprefix(STAGE)
            if way == values["way"]:  # a yardstick of the script
                continue
            setting = f"{_pixels(settings['image_size'])}, batch {settings['batch']}, {values['precision']}, {way}"
            words = (label, task, setting, _hardware(found["hardware"]), "measured")
            cells = {"images_per_s": Cell(values["images_per_s"])}
            key = method if task == SCORING else ""
            yield _row(words, cells, key, task, f"{way}, {values['precision']}", _command(found))


def _published_row(cost: PublishedCost) -> Row:
    stated = {column.key: getattr(cost, column.key) for column in COLUMNS[:4]}
    missing = Cell(None, (Note("not_stated"),))
    cells = {key: missing if value is None else Cell(value) for key, value in stated.items()}
    speed = cost.batch / cost.step_s if cost.batch and cost.step_s else None
    cells["images_per_s"] = missing if speed is None else Cell(speed, (Note("from_step"),))
    cells["peak_mb"] = missing
    batch = f", batch {cost.batch}" if cost.batch else ""
    what = f"model, {STEP}" if cost.step_s else "model"
    words = (METHODS[cost.method], what, f"{_pixels(cost.image_size)}{batch}", cost.hardware)
    keys = {"method": cost.method, "task": what, "source": cost.source}
    return Row((*words, f"published: {SOURCES[cost.source].label}"), cells, keys, "published", "published")


def _row(
    words: tuple[str, ...],
    cells: Mapping[str, Cell],
    method: str,
    task: str,
    way: str = "",
    notes: tuple[Note, ...] = (),
) -> Row:
    keys = {"method": method, "label": words[0], "task": task, "setting": words[2], "way": way, "hardware": words[3]}
    return Row(words, cells, keys | {"source": "measured"}, block=task, notes=notes)


def _pixels(size: int) -> str:
    return f"{size} px"


def _hardware(facts: Mapping[str, Any]) -> str:
    """The processor or the GPU, in a few words."""
    processor = " ".join(re.sub(r"\((R|TM)\)|\b(Processor|CPU)\b", " ", facts["cpu"]).split())
    return facts["gpu"] or f"{processor}, {facts['threads']} threads"


def _command(found: Mapping[str, Any]) -> tuple[Note]:
    facts = found["hardware"]
    gpu = f"{facts['gpu']} with {facts['gpu_memory_gib']} GiB" if facts["gpu"] else "no GPU"
    text = (
        f"{found['command']}: {facts['cpu']}, {facts['cpu_cores']} cores, {facts['threads']} threads, {facts['ram_gib']} GiB memory, "
        f"{gpu}; {facts['os']}, Python {facts['python']}, torch {facts['torch']}."
    )
    return (_words(text),)


def _words(text: str) -> Note:
    return Note("verbatim", (text,))
