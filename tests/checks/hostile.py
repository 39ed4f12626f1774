"""Damaged and hostile files of every kind that invad reads, and what the service says of them.

python tests/checks/hostile.py --trials 100 --seed 0

A trial gives whole files of one kind and twenty mutations to what reads them, in a process with limits of time and memory. Whole ones are
read, the others too or refused with an `InputError` of one line; the service answers them, or says 4xx.
"""

import io
import json
import os
import random
import resource
import shutil
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
import yaml
from check_frame import Trial, child, main
from conftest import repository_params
from PIL import Image
from prediction_toys import toy_model_folder
from toys import split_of

import invad
from invad.config import load_params
from invad.data.coco_annotations import Instance, read_annotations
from invad.data.images import image_size, read_image, read_mask
from invad.data.official.unpack import unpack
from invad.data.own.user_table import read_user_table
from invad.data.split_table import read_split_table, write_split_table
from invad.errors import InputError
from invad.scoring.map_inputs import read_inputs
from invad.training.authors_checkpoint import _read_state

INPUTS, SECONDS, MEMORY, MOST_WORDS = (
    20,
    20,
    3 << 30,
    2001,
)  # of a trial; of processor time and bytes for each; of a message
HOSTILE = (
    None, True, "", "x", -1, 0, 1e308, float("nan"), float("inf"), 10**30, "9" * 400, [], {}, [[]], {"a": 1}, "../x", "\0", "1e9",
    ["x"] * 1000,
)  # fmt: skip


class Kind(NamedTuple):
    """What reads a file, of its path and the model's folder; whole files by name and bombs, of that folder; how one is damaged."""

    read: Callable[[Path, Path], object]
    files: Callable[[Path], dict[str, bytes]]
    mutate: Callable[[bytes, random.Random], bytes]


# ---- mutations


def bytes_changed(data: bytes, rng: random.Random) -> bytes:
    """Flip bits, change the header, cut off, leave out, repeat, fill, or append."""
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        end = len(mutated) if rng.random() < 0.5 else min(len(mutated), 300)
        at, length = rng.randrange(max(end, 1)), rng.choice((1, 4, 64, 1000))
        way = rng.randrange(7)
        if way < 2:
            mutated[at : at + 1] = bytes([rng.randrange(256)])
        elif way == 2:
            mutated[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1)))
        elif way == 3:
            del mutated[at : at + length]
        elif way == 4:
            mutated[at:at] = mutated[at : at + length] * rng.choice((1, 50))
        elif way == 5:
            mutated[at : at + length] = bytes([rng.choice((0, 255))]) * length
        else:
            mutated += rng.randbytes(length)
    return bytes(mutated[: rng.randrange(len(mutated) + 1)] if rng.random() < 0.2 else mutated)


def values_changed(data: bytes, rng: random.Random) -> bytes:
    """Replace, remove or add a value anywhere in settings (YAML that is JSON where they were), or change the bytes of their text."""
    value = inner = yaml.safe_load(data)
    while True:
        key = rng.choice([*inner] if isinstance(inner, dict) else range(len(inner)))
        if not (isinstance(inner[key], dict | list) and inner[key] and rng.random() < 0.9):
            break
        inner = inner[key]
    new, way = rng.choice(HOSTILE), rng.random()
    if way < 0.2:
        del inner[key]
    else:
        inner[f"{key}2" if way < 0.4 and isinstance(inner, dict) else key] = new
    text = (json.dumps(value) if data.startswith(b"{") else yaml.safe_dump(value, sort_keys=False)).encode()
    return text if rng.random() < 0.7 else bytes_changed(text, rng)


def mutated(
    files: dict[str, bytes], mutate: Callable[[bytes, random.Random], bytes], rng: random.Random
) -> tuple[str, bytes]:
    """A file's name, at times with another's suffix, and what is in it."""
    name, other = rng.choice([*files]), rng.choice([*files])
    data = files[name] if name.startswith("bomb") else mutate(files[name], rng)
    return f"{Path(name).stem}{Path(other if rng.random() < 0.1 else name).suffix}", data


# ---- whole files, and bombs


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def images(_: Path) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 200, (40, 48, 3), np.uint8))
    grey, bits = colours.convert("L"), colours.convert("1")
    files = {f"a.{kind.lower()}": encoded(colours, kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")}
    files |= {"palette.png": encoded(colours.quantize(16), "PNG"), "alpha.png": encoded(colours.convert("LA"), "PNG")}
    files |= {"grey.jpg": encoded(grey, "JPEG", progressive=True), "cmyk.jpg": encoded(colours.convert("CMYK"), "JPEG")}
    files |= {f"{name}.tif": encoded(colours, "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "packbits")}
    files |= {f"{name}.tif": encoded(bits, "TIFF", compression=name) for name in ("group3", "group4")}
    scan = files["grey.jpg"][files["grey.jpg"].rindex(b"\xff\xda") : -2]
    files |= {"bomb.jpg": files["grey.jpg"][:-2] + scan * 1500 + files["grey.jpg"][-2:]}
    files |= {f"bomb{side}.png": png_of(side, side, bytes(1000)) for side in (9_000, 60_000, 2**31 - 1)}
    return files


def archives(_: Path) -> dict[str, bytes]:
    def packed(mode: str, data: bytes) -> bytes:
        buffer = io.BytesIO()
        if mode == "zip":
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("a/x.png", data)
                archive.writestr("a/y.png", b"abc")
        else:
            with tarfile.open(fileobj=buffer, mode=mode) as archive:
                member = tarfile.TarInfo("a/x.png")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return buffer.getvalue()

    noise = random.Random(0).randbytes(3000)
    modes = {"a.zip": "zip", "a.tar": "w", "a.tgz": "w:gz", "a.txz": "w:xz", "a.tbz": "w:bz2"}
    files = {name: packed(mode, noise) for name, mode in modes.items()}
    return files | {
        f"bomb.{name[2:]}": packed(mode, bytes(30_000_000)) for name, mode in modes.items() if name != "a.tar"
    }


def tables(_: Path) -> dict[str, bytes]:
    columns = pa.table({
        "image": ["a.png", "b.png"], "class": ["x", "x"], "label": ["normal", "anomalous"], "mask": ["", "m.png"],
    })  # fmt: skip
    csv, parquet, bomb = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pyarrow.csv.write_csv(columns, csv)
    pq.write_table(columns, parquet)
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3_000_000, np.int32)), pa.array(["x" * 3000]))
    pq.write_table(pa.table({"image": words}), bomb, compression="zstd")
    long = b"image\n" + b"x" * 20_000_000
    return {"a.csv": csv.getvalue(), "a.parquet": parquet.getvalue(), "bomb.parquet": bomb.getvalue(), "bomb.csv": long}


def arrays(_: Path) -> dict[str, bytes]:
    maps, masks = np.random.default_rng(0).random((4, 8, 8), np.float32), np.zeros((4, 8, 8), np.uint8)
    masks[2:, :4] = 1
    plain, packed, bomb = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(plain, anomaly_maps=maps, masks=masks)
    np.savez_compressed(packed, anomaly_maps=maps, masks=masks, classes=np.array(["x"] * 4))
    np.savez_compressed(bomb, anomaly_maps=np.zeros((1000, 256, 256), np.float32), masks=masks)
    return {"a.npz": plain.getvalue(), "b.npz": packed.getvalue(), "bomb.npz": bomb.getvalue()}


def annotations(_: Path) -> dict[str, bytes]:
    outline = [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0]]
    return texts("json", {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "categories": [{"id": number, "name": str(number)} for number in range(80)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": outline}],
    })  # fmt: skip


def checkpoints(_: Path) -> dict[str, bytes]:
    buffer = io.BytesIO()
    torch.save({f"net_{part}.weight": torch.zeros(9, 9) for part in ("encoder", "fuser", "decoder")}, buffer)
    return {"a.pth": buffer.getvalue()}


def split_tables(model: Path) -> dict[str, bytes]:
    path = model.parent / f"{os.getpid()}.parquet"
    write_split_table(split_of(model, 2, 2).rows, path, {"benchmark": "toys"})
    return {"a.parquet": path.read_bytes()}


def texts(kind: str, whole: object) -> dict[str, bytes]:
    """Settings, and bombs of their syntax."""
    text = json.dumps(whole) if kind == "json" else yaml.safe_dump(whole, sort_keys=False)
    aliases = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    aliases += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    bombs = ("[" * 100_000, '{"a":' * 5000, "9" * 5000, "x" * 20_000_000, "\0", "\n".join(aliases), '{"a": NaN}')
    return {f"{n}.{kind}": text.encode() for n in range(9)} | {
        f"bomb{n}.{kind}": bomb.encode() for n, bomb in enumerate(bombs)
    }


def model_file(name: str) -> Callable[[Path], dict[str, bytes]]:
    def files(model: Path) -> dict[str, bytes]:
        data = (model / name).read_bytes()
        return texts("json", json.loads(data)) if name.endswith(".json") else {"a.safetensors": data}

    return files


# ---- readers


def read_images(path: Path, model: Path) -> None:
    image_size(path)
    read_image(path, 64)
    (prediction,) = invad.load(model, device="cpu").predict(path)
    assert np.isfinite(prediction.score)


def model_with(name: str) -> Callable[[Path, Path], None]:
    """What loads a model whose file `name` is the damaged one, as a version wrote it that knew no digests."""

    def read(path: Path, model: Path) -> None:
        copy = shutil.copytree(model, path.parent / "model")
        config = json.loads((copy / "config.json").read_text())
        del config["model_sha256"]
        (copy / "config.json").write_text(json.dumps(config))
        path.replace(copy / name)
        (prediction,) = invad.load(copy, device="cpu").predict(np.zeros((8, 8, 3), np.uint8))
        assert np.isfinite(prediction.score)

    return read


def serve(path: Path, model: Path) -> None:
    """The service refuses with a reason of one line that names no place of this machine."""
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
        assert not any(word in reason for word in ("\n", " 0x", "site-packages", str(path.parent))), reason


def unpack_archive(path: Path, _: Path) -> None:
    unpack(path, path.parent / "files", name=path.name, sha256="", unpacked_size=1_000_000, label="x")


MODEL_FILES = ("config.json", "calibration.json", "model.safetensors", "encoder.safetensors")
KINDS = {
    "images": Kind(read_images, images, bytes_changed),
    "service": Kind(serve, images, bytes_changed),
    "masks": Kind(lambda path, _: read_mask(path), images, bytes_changed),
    "params": Kind(
        lambda path, _: load_params(path), lambda _: texts("yaml", repository_params("mvtec")), values_changed
    ),
    **{
        name: Kind(model_with(name), model_file(name), values_changed if name.endswith(".json") else bytes_changed)
        for name in MODEL_FILES
    },
    "archives": Kind(unpack_archive, archives, bytes_changed),
    "tables": Kind(lambda path, _: read_user_table(path, path.parent, "x"), tables, bytes_changed),
    "splits": Kind(lambda path, _: read_split_table(path), split_tables, bytes_changed),
    "maps": Kind(lambda path, _: read_inputs(path).evaluate(), arrays, bytes_changed),
    "annotations": Kind(lambda path, _: read_annotations(path, Instance), annotations, values_changed),
    "checkpoints": Kind(lambda path, _: _read_state(path), checkpoints, bytes_changed),
}


# ---- trials


def give(name: str, seed: int, model: Path, folder: Path) -> None:
    """Read the inputs of a trial within the limits, here; prints which, so that the last one is what failed."""
    (read, make_files, mutate), rng = KINDS[name], random.Random(f"{name} {seed}")
    files = make_files(model)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    whole = [(name, data) for name, data in files.items() if not name.startswith("bomb")]
    for number in range(len(whole) + INPUTS):
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS, resource.RLIM_INFINITY))
        place = folder / str(number)
        place.mkdir()
        file, data = whole[number] if number < len(whole) else mutated(files, mutate, rng)
        (place / file).write_bytes(data)
        print(f"input {number}, {file} of {len(data)} bytes", flush=True)
        try:
            read(place / file, model)
        except InputError as error:
            assert number >= len(whole), f"a whole file is refused: {error}"
            assert str(error).isprintable() and len(str(error)) < MOST_WORDS, f"no line of words: {error!r}"
        shutil.rmtree(place)
    sys.stdout.flush()


@contextmanager
def check(folder: Path) -> Iterator[Trial]:
    """Each trial is of the next kind."""
    model, log = toy_model_folder(folder / "toys"), folder / "log"

    def trial(seed: int) -> str:
        name, place = [*KINDS][seed % len(KINDS)], folder / "trial"
        place.mkdir()
        try:
            process = child(give, name, seed, model, place, log=log)
            process.join(600)
            process.kill()
            said = log.read_text(errors="replace")
            assert process.exitcode == 0, f"{name} ended with {process.exitcode}: {said[-1500:]}"
            assert len(said) < 20_000, f"{name}: {len(said)} characters were printed: {said[:1500]}"
        finally:
            shutil.rmtree(place)
        return name

    yield trial


if __name__ == "__main__":
    main(__file__, check)
