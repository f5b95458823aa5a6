"""Small valid files of every kind that is read from elsewhere, by name in a folder."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from fakes import reseal
from PIL import Image
from safetensors.torch import save
from torch import nn

from analysis.teaching.hand_in import checksum, seed_of
from lib.imaging.grids import Grid, encoded
from lib.networks.stage_map import SHIPPED
from lib.runs.tensor_files import write_tensors
from lib.study.plan import suites_dir
from lib.training.record import Record


def picture(kind: str, mode: str = "L", **how: Any) -> bytes:
    stream = io.BytesIO()
    pixels = np.arange(24 * 20 * 3, dtype=np.uint8).reshape(24, 20, 3)
    Image.fromarray(pixels).convert(mode).save(stream, kind, **how)
    return stream.getvalue()


def pictures_files() -> dict[str, bytes]:
    alike = {
        f"{kind}{mode}.{kind}": picture(kind, mode) for kind in ("png", "tiff", "bmp") for mode in ("L", "RGB", "1")
    }
    more = {"p.png": picture("png", "P"), "a.png": picture("png", "RGBA"), "i.tiff": picture("tiff", "I;16")}
    packed = {"z.tiff": picture("tiff", "L", compression="tiff_lzw"), "g.gif": picture("gif"), "j.jpg": picture("jpeg")}
    return {**alike, **more, **packed, "w.webp": picture("webp"), "n.pgm": picture("ppm")}


def volumes_files() -> dict[str, bytes]:
    voxels = np.random.default_rng(0).integers(0, 200, (1, 6, 7, 5)).astype(np.uint8)
    plain = encoded(Grid(voxels, np.diag([1.0, 2.0, 3.0, 1.0])), compress=False)
    real = encoded(Grid(voxels.astype(np.float32), np.eye(4)), compress=False)
    return {"u.nii": plain, "f.nii": real, "z.nii.gz": gzip.compress(plain)}


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones((2, 1, 4, 4), np.float32))
    return stream.getvalue()


def kspace_files() -> dict[str, bytes]:
    kspace = (np.random.default_rng(0).normal(size=(2, 8, 9)) + 1j).astype(np.complex64)
    found = {"k.npz": npz(kspace=kspace, mask=np.ones(9, bool))}
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        return found
    stream = io.BytesIO()
    with h5py.File(stream, "w") as stored:
        stored.create_dataset("kspace", data=kspace, chunks=True, compression="gzip")
        stored["mask"] = np.ones(9, np.float32)
    return {**found, "k.h5": stream.getvalue()}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3))


def _saved(content: Any, **how: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **how)
    return stream.getvalue()


def checkpoints_files() -> dict[str, bytes]:
    state = network().state_dict()
    whole = {"state_dict": state, "global_step": 4, "hyper": {"lr": 0.1}, "optimizer": {0: torch.zeros(3)}}
    old = _saved(state, _use_new_zipfile_serialization=False)
    return {"a.pt": _saved(whole), "b.pth": old, "c.safetensors": save(state)}


def shards_files() -> dict[str, bytes]:
    state = network().state_dict()
    index = {"metadata": {}, "weight_map": dict.fromkeys(state, "m-1-of-1.safetensors")}
    return {"m.safetensors.index.json": json.dumps(index).encode(), "m-1-of-1.safetensors": save(state)}


def series_files() -> dict[str, bytes]:
    state = network().state_dict()
    return {
        "a.safetensors": save(state),
        "b.safetensors": save(state),
        "series.csv": b"file,step\na.safetensors,0\nb.safetensors,5\n",
    }


SPEC = tiny.spec(task="sim_ultrasound_easy", volume=6)


NEXT = SPEC.but(strategy="full_finetuning", source=SPEC)


def hand_in_files() -> dict[str, bytes]:
    answers = {"q1": {"answer": 3, "passed": True, "tries": 2}, "q2": {"answer": "a", "passed": False, "tries": 1}}
    content = {"student": "Ada", "seed": seed_of("Ada"), "exercise": "t1", "answers": answers}
    return {"a.json": json.dumps({**content, "checksum": checksum(content)}).encode()}


def spec_files() -> dict[str, bytes]:
    return {"s.json": json.dumps(NEXT.to_dict()).encode()}


def run_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        record = Record(folder, NEXT)
        state = NEXT.network().state_dict()
        record.write("spec.json", json.dumps(NEXT.to_dict(), sort_keys=True, separators=(",", ":")) + "\n")
        for step in (0, 8):
            record.add({"step": step, "seconds": 1.0, "train_loss": 0.5, "val_dice": 0.5, "val_loss": 0.5, "lr": 0.01})
            write_tensors(folder / f"checkpoints/step-{step:06d}.safetensors", state, {"step": str(step)})
        score = {"dice": 0.5, "hd95": 2.0, "misses": 0, "empty": 0, "images": 9}
        result = {
            "status": "done", "reason": None, "val": score, "test": score, "steps": 8, "seconds": 1.0, "trainable": 3,
            "parameters": 3, "images": {"train": 6, "val": 3, "test": 9}, "data": None, "source": None, "device": "cpu",
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(result))
        reseal(folder)
        files = [file for file in folder.rglob("*") if file.is_file()]
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def archive_files() -> dict[str, bytes]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in run_files().items():
            about = tarfile.TarInfo(f"suite/runs/{NEXT.task}-x/{name}")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return {"a.tar.gz": stream.getvalue(), "b.tar": gzip.decompress(stream.getvalue())}


def tensors_files() -> dict[str, bytes]:
    return {name: content for name, content in run_files().items() if name.endswith("000000.safetensors")}


def plans_files() -> dict[str, bytes]:
    given = {"in_features": 1, "out_features": 1, "op": "torch.nn.Conv2d"}
    architecture = {"network_class_name": "torch.nn.Linear", "arch_kwargs": given, "_kw_requires_import": ["op"]}
    plans = {"configurations": {"2d": {"architecture": architecture}, "x": {"inherits_from": "2d"}}}
    data = {"labels": {"background": 0, "tumor": 1}, "channel_names": {"0": "CT"}}
    return {"T__P__x/plans.json": json.dumps(plans).encode(), "T__P__x/dataset.json": json.dumps(data).encode()}


def originals_files() -> dict[str, bytes]:
    card = tiny.CARD.replace("[split]", 'fetch = "table"\naddress = "https://example.org"\nfolder = "b"\n[split]')
    line = f"a/b,{'c' * 40},images/1.png,12,{'0' * 64}\n"
    return {"t.toml": card.encode(), "t.csv": f"repository,commit,path,bytes,sha256\n{line * 3}".encode()}


def prepared_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as place:
        root = tiny.make_blobs(Path(place), count=12)
        files = [file for file in root.rglob("*") if file.is_file()]
        return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


GROUPS = b"name,group\n" + b"".join(b"s%d,g%d\n" % (n, n % 3) for n in range(6))


DATASET = {
    "labels": {"background": 0, "tumor": 1, "whole": [1, 2]}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz",
    "training": [{"image": "./dataset.json", "label": "./dataset.json"}],
}  # fmt: skip


PARAMETERS = b'[00_start_here]\ntask = "sim_radiograph"\nsteps = 50\n[11_your_network]\nnetwork = "a:b"\nsteps = 4\n'


SUITE = (suites_dir() / "smoke.toml").read_bytes()


SMALL = (SHIPPED / "residual_example.toml").read_bytes()
