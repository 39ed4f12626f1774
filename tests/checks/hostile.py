"""Damaged and hostile files of every kind that invad reads, and what the service says of them.

python tests/checks/hostile.py --trials 100 --seed 0

A trial gives whole files of one kind, and ten that are damaged or bombs, to what reads them, in a process with limits of time and
memory. Whole ones are read, the others too or refused with an `InputError` of one line; the service answers them, or says 4xx.
"""

import hashlib
import io
import json
import random
import resource
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from check_frame import Trial, child, main
from conftest import repository_params
from pictures import encoded, picture, png_header
from prediction_toys import toy_model_folder
from toys import split_of

import invad
from invad.config import load_params
from invad.data.coco_annotations import Instance, read_annotations
from invad.data.images import image_size, read_image, read_mask
from invad.data.official.unpack import unpack
from invad.data.own.table import read_table
from invad.data.split_table import read_split_table, write_split_table
from invad.errors import InputError
from invad.scoring.map_inputs import read_inputs
from invad.training.authors_checkpoint import VARIANTS, _read_state

INPUTS = 10
SECONDS, MEMORY = 20, 3 << 30  # of processor time for each input, and bytes above those that the libraries have
VALUES = (
    None, True, "", "x", -1, 0, 1e308, float("nan"), float("inf"), 10**30, "9" * 400, [], {}, [[]], {"a": 1}, "../x", "\0", "1e9",
    ["x"] * 1000,
)  # fmt: skip
Files = dict[str, bytes]


class Kind(NamedTuple):
    """What reads a file, of its path and the model's folder; whole files and bombs by name, of that folder; how one is damaged."""

    read: Callable[[Path, Path], object]
    files: Callable[[Path], Files]
    damage: Callable[[bytes, random.Random], bytes]


# ---- damage


def bytes_changed(data: bytes, rng: random.Random) -> bytes:
    """Change bytes and numbers, leave out, repeat, fill, append or cut off; half of it within the header."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        at, length = rng.randrange(1 + (len(changed) if rng.random() < 0.5 else 300)), rng.choice((1, 4, 64, 1000))
        number = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1)))
        piece = changed[at : at + length]
        new = (
            rng.randbytes(1),
            number,
            b"",
            piece * 2,
            piece * 50,
            bytes(length),
            b"\xff" * length,
            rng.randbytes(length),
        )
        changed[at : at + length] = rng.choice(new)
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.2 else changed)


def values_changed(data: bytes, rng: random.Random) -> bytes:
    """Replace, remove or add a value anywhere in settings, or change the bytes of their text."""
    value = inner = yaml.safe_load(data)
    while True:
        key = rng.choice([*inner] if isinstance(inner, dict) else range(len(inner)))
        if not (isinstance(inner[key], dict | list) and inner[key] and rng.random() < 0.9):
            break
        inner = inner[key]
    way = rng.random()
    inner[f"{key}2" if way < 0.2 and isinstance(inner, dict) else key] = rng.choice(VALUES)
    if way > 0.8:
        del inner[key]
    text = (json.dumps(value) if data.startswith(b"{") else yaml.safe_dump(value, sort_keys=False)).encode()
    return text if rng.random() < 0.7 else bytes_changed(text, rng)


def damaged(files: Files, kind: Kind, rng: random.Random) -> tuple[str, bytes]:
    """A name, at times with the suffix of another file, and a bomb or what is left of a whole file."""
    bombs, whole = ([name for name in files if name.startswith("bomb") == is_bomb] for is_bomb in (True, False))
    if bombs and rng.random() < 0.2:
        return (name := rng.choice(bombs)), files[name]
    name, other = rng.choice(whole), rng.choice(whole)
    return Path(name).stem + Path(other if rng.random() < 0.1 else name).suffix, kind.damage(files[name], rng)


# ---- whole files, and bombs


def images(_: Path) -> Files:
    colours = picture(100, 48, 40)
    files = {f"a.{kind.lower()}": encoded(colours, kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")}
    files |= {"palette.png": encoded(colours.quantize(16)), "alpha.png": encoded(colours.convert("LA"))}
    files |= {f"{name}.tif": encoded(colours, "TIFF", compression=name) for name in ("tiff_lzw", "packbits")}
    # Refused, also when they are whole.
    files["bomb-jpeg.tif"] = encoded(colours, "TIFF", compression="jpeg")
    files |= {f"bomb-{fax}.tif": encoded(colours.convert("1"), "TIFF", compression=fax) for fax in ("group3", "group4")}
    files["scans.jpg"] = scans = encoded(colours, "JPEG", progressive=True)
    files["bomb.jpg"] = scans[:-2] + scans[scans.rindex(b"\xff\xda") : -2] * 1500 + scans[-2:]
    return files | {f"bomb{side}.png": png_header(side, side) for side in (9_000, 60_000, 2**31 - 1)}


def archives(_: Path) -> Files:
    def packed(mode: str, data: bytes) -> bytes:
        buffer = io.BytesIO()
        if mode == "zip":
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("a/x.png", data)
        else:
            with tarfile.open(fileobj=buffer, mode=mode) as archive:
                member = tarfile.TarInfo("a/x.png")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return buffer.getvalue()

    modes = {"a.zip": "zip", "a.tar": "w", "a.tgz": "w:gz", "a.txz": "w:xz", "a.tbz": "w:bz2"}
    files = {name: packed(mode, random.Random(0).randbytes(3000)) for name, mode in modes.items()}
    return files | {f"bomb.{name}": packed(mode, bytes(30_000_000)) for name, mode in modes.items()}


def tables(_: Path) -> Files:
    columns = {"image": ["a.png", "b.png"], "class": ["x", "x"], "label": ["normal", "bad"], "mask": ["", "m.png"]}
    text = "\n".join([",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))])
    return {"a.csv": text.encode(), "bomb.csv": b"image\n" + b"x" * 20_000_000}


def split_tables(model: Path) -> Files:
    path = model.parent / "split.parquet"
    write_split_table(split_of(model, 2, 2).rows, path, {"benchmark": "toys"})
    return {"a.parquet": path.read_bytes()}


def arrays(_: Path) -> Files:
    maps, masks = np.random.default_rng(0).random((4, 8, 8), np.float32), np.zeros((4, 8, 8), np.uint8)
    masks[2:, :4] = 1
    plain, packed, bomb = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(plain, anomaly_maps=maps, masks=masks)
    np.savez_compressed(packed, anomaly_maps=maps, masks=masks, classes=np.array(["x"] * 4))
    np.savez_compressed(bomb, anomaly_maps=np.zeros((1000, 256, 256), np.float32), masks=masks)
    return {"a.npz": plain.getvalue(), "b.npz": packed.getvalue(), "bomb.npz": bomb.getvalue()}


def checkpoints(_: Path) -> Files:
    buffer = io.BytesIO()
    torch.save({f"net_{part}.weight": torch.zeros(9, 9) for part in ("encoder", "fuser", "decoder")}, buffer)
    return {"a.pth": buffer.getvalue()}


def texts(kind: str, whole: object) -> Files:
    """Settings, and bombs of their syntax."""
    aliases = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    aliases += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    bombs = ("[" * 100_000, '{"a":' * 5000, "9" * 5000, "x" * 20_000_000, "\0", "\n".join(aliases), '{"a": NaN}')
    files = {f"bomb{number}.{kind}": bomb.encode() for number, bomb in enumerate(bombs)}
    return files | {f"a.{kind}": (json.dumps(whole) if kind == "json" else yaml.safe_dump(whole)).encode()}


def annotations(_: Path) -> Files:
    shape = {"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0]]}
    image = {"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}
    categories = [{"id": number, "name": str(number)} for number in range(80)]
    return texts("json", {"images": [image], "categories": categories, "annotations": [shape]})


# ---- readers


def read_images(path: Path, model: Path) -> None:
    image_size(path)
    read_image(path, 64)
    assert np.isfinite(invad.load(model, device="cpu").predict(path)[0].score)


def of_model(name: str) -> Kind:
    """A file of a model, in a folder whose digest of the weights is that of the file, so that more than the digest is looked at."""

    def read(path: Path, model: Path) -> None:
        copy = shutil.copytree(model, path.parent / "model")
        path.replace(copy / name)
        if name == "model.safetensors":
            config = json.loads((copy / "config.json").read_text())
            config["model_sha256"] = hashlib.sha256((copy / name).read_bytes()).hexdigest()
            (copy / "config.json").write_text(json.dumps(config))
        assert np.isfinite(invad.load(copy, device="cpu").predict(np.zeros((8, 8, 3), np.uint8))[0].score)

    if name.endswith(".json"):
        return Kind(read, lambda model: texts("json", json.loads((model / name).read_text())), values_changed)
    return Kind(read, lambda model: {"a.safetensors": (model / name).read_bytes()}, bytes_changed)


def serve(path: Path, model: Path) -> None:
    """The service answers, or refuses with a reason that names no place of this machine."""
    from fastapi.testclient import TestClient

    from invad.predict.serve import Limits
    from invad.predict.serve.app import create_app
    from invad.predict.serve.server import LOCAL_NAMES
    from invad.predict.serve.service import Service

    service = Service(invad.load(model, device="cpu"), "toys", Limits())
    with TestClient(create_app(service, LOCAL_NAMES), "http://localhost", raise_server_exceptions=False) as client:
        answer = client.post("/predict", content=path.read_bytes(), headers={"Content-Type": "image/png"})
    if answer.status_code != 200:
        reason = answer.json()["error"]
        assert answer.status_code in (400, 413, 422), f"{answer.status_code}: {reason}"
        assert not any(word in reason for word in (" 0x", "site-packages", str(path.parent))), reason
        raise InputError(reason)


def unpack_archive(path: Path, _: Path) -> None:
    unpack(path, path.parent / "files", name=path.name, sha256="", unpacked_size=1_000_000, label="x")


KINDS = {
    "images": Kind(read_images, images, bytes_changed),
    "service": Kind(serve, images, bytes_changed),
    "masks": Kind(lambda path, _: read_mask(path), images, bytes_changed),
    "params": Kind(lambda path, _: load_params(path), lambda _: texts("yaml", repository_params()), values_changed),
    "config": of_model("config.json"),
    "calibration": of_model("calibration.json"),
    "weights": of_model("model.safetensors"),
    "encoder": of_model("encoder.safetensors"),
    "archives": Kind(unpack_archive, archives, bytes_changed),
    "tables": Kind(lambda path, _: read_table(path, path.parent, "x"), tables, bytes_changed),
    "splits": Kind(lambda path, _: read_split_table(path), split_tables, bytes_changed),
    "maps": Kind(lambda path, _: read_inputs(path).evaluate(), arrays, bytes_changed),
    "annotations": Kind(lambda path, _: read_annotations(path, Instance), annotations, values_changed),
    "checkpoints": Kind(lambda path, _: _read_state(path, VARIANTS["invad"].names), checkpoints, bytes_changed),
}


# ---- trials


def give(name: str, seed: int, model: Path, folder: Path) -> None:
    """Have the inputs of a trial read within the limits, here; prints which, so that the last one is what failed."""
    kind, rng = KINDS[name], random.Random(f"{name} {seed}")
    files = kind.files(model)
    inputs = [(name, data) for name, data in files.items() if not name.startswith("bomb")]
    whole = len(inputs)
    inputs += [damaged(files, kind, rng) for _ in range(INPUTS)]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    for number, (file, data) in enumerate(inputs):
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS, resource.RLIM_INFINITY))
        place = folder / str(number)
        place.mkdir()
        (place / file).write_bytes(data)
        print(f"input {number}, {file} of {len(data)} bytes", flush=True)
        try:
            kind.read(place / file, model)
        except InputError as error:
            assert number >= whole, f"a whole file is refused: {error}"
            assert str(error).isprintable(), f"not a line of words: {error!r}"
        shutil.rmtree(place)


@contextmanager
def check(folder: Path) -> Iterator[Trial]:
    """Each trial is of the next kind."""
    model, log = toy_model_folder(folder / "toys"), folder / "log"

    def trial(seed: int) -> str:
        name, place = [*KINDS][seed % len(KINDS)], folder / "trial"
        place.mkdir()
        process = child(give, name, seed, model, place, log=log)
        process.join(600)
        process.kill()
        process.join()
        shutil.rmtree(place)
        said = log.read_text(errors="replace")
        assert process.exitcode == 0, f"{name} ended with {process.exitcode}: {said[-1500:]}"
        assert len(said) < 20_000, f"{name}: {len(said)} characters were printed: {said[:1500]}"
        return name

    yield trial


if __name__ == "__main__":
    main(__file__, check)
