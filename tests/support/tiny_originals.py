"""Small made-up originals in the layout of each real dataset, with a card and a table, for tests."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from lib.common import paths

COMMIT = "0" * 40


def picture(seed: int, height: int = 40, width: int = 48) -> np.ndarray:
    """A gray picture that resembles no other seed's."""
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)


def disk(height: int = 40, width: int = 48, top: int = 10, left: int = 12, side: int = 16) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def mat(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"groundtruth": labels})
    return buffer.getvalue()


def busi() -> dict[str, bytes]:
    """Three lesions: one with two masks, one with a near-duplicate, one that also occurs as malignant; and one more."""
    folder = "input/Dataset_BUSI_with_GT"
    files = {}

    def add(label: str, number: int, seed: int, *masks: np.ndarray) -> None:
        stem = f"{folder}/{label}/{label} ({number})"
        files[f"{stem}.png"] = encoded(np.repeat(picture(seed)[:, :, None], 3, 2))
        for place, mask in enumerate(masks):
            files[f"{stem}_mask{f'_{place}' if place else ''}.png"] = encoded(mask)  # 1-bit, as the originals are

    add("benign", 1, 1, disk(left=2, side=8), disk(left=30, side=8))
    add("benign", 2, 2, disk())
    add("benign", 10, 2, disk())
    add("benign", 3, 3, disk())
    add("malignant", 1, 3, disk())
    add("malignant", 2, 4, disk(side=4))
    return files


def usgra() -> dict[str, bytes]:
    """Four frames: two alike, one of the test folder, one without a vessel."""
    labels = disk().astype(np.uint8)
    both = labels.copy()
    both[30:36, 2:8] = 2
    frames = [("dataset", "0000", 1, both), ("dataset", "0001", 2, labels), ("dataset", "0003", 1, both)]
    frames.append(("dataset/test", "0002", 3, both))
    files = {}
    for folder, name, seed, mask in frames:
        files[f"{folder}/images/{name}.png"] = encoded(picture(seed))
        files[f"{folder}/masks/{name}.png"] = encoded(mask)
    return files


def cxr_lungs() -> dict[str, bytes]:
    """Four radiographs: two of one patient, one whose mask has another size, one twice."""
    files, rows, archive = {}, ["patientid,view,license,finding,doi,url,filename,clinical_notes"], io.BytesIO()
    mask = disk().astype(np.uint8) * 255
    mask[:4] = 127
    with zipfile.ZipFile(archive, "w") as stored:
        for number, (name, seed) in enumerate([("a.png", 1), ("b.png", 2), ("c.png", 3), ("d.png", 2), ("e.png", 4)]):
            files[f"images/{name}"] = encoded(picture(seed))
            small = encoded(mask[:-1]) if name == "c.png" else encoded(mask)
            files[f"annotations/all-images-semantic-masks/{number + 70}.png"] = small
            stored.writestr(f"{number + 70}.json", json.dumps({"image": {"original_filename": name}}))
            patient = 1 if name in "a.png b.png" else number
            rows.append(f"{patient},PA,CC BY 4.0,COVID-19,10.1/x,u,{name},a note that stays behind")
    files["metadata.csv"] = "\n".join(rows).encode()
    files["annotations/covid-only.zip"] = archive.getvalue()
    return files


def ccp() -> dict[str, bytes]:
    """Three photographs: one person, the same again, one without a label."""
    labels = np.zeros((100, 60), np.uint8)
    labels[10:90, 20:40] = 14
    labels[10:20, 25:35] = 19
    files = {}
    for name, seed, shown in (("0001", 1, labels), ("0002", 1, labels), ("0003", 2, labels * 0)):
        pixels = np.repeat(picture(seed, 100, 60)[:, :, None], 3, 2)
        files[f"photos/{name}.jpg"] = encoded(pixels, "JPEG", quality=95)
        files[f"annotations/pixel-level/{name}.mat"] = mat(shown)
    return files


def camvid() -> dict[str, bytes]:
    """Five frames: cars in four of them, one of which is of the part of the test set that is left out."""
    cars = np.where(disk(), 8, 3).astype(np.uint8)
    frames = [("train", "0001TP_1", 8), ("train", "0006R0_f2", 9), ("val", "0016E5_3", 3), ("test", "Seq05VD_f4", 10)]
    files = {}
    for part, name, label in [*frames, ("test", "0001TP_5", 8)]:
        files[f"CamVid/{part}/{name}.png"] = encoded(np.repeat(picture(len(files))[:, :, None], 3, 2))
        files[f"CamVid/{part}annot/{name}.png"] = encoded(np.where(cars == 8, label, 3).astype(np.uint8))
    return files


def em_membranes() -> dict[str, bytes]:
    """Two sections; membranes lie in the upper left tile only, drawn with 1 bit."""
    files = {}
    for number in range(2):
        files[f"stack1/raw/{number:02d}.tif"] = encoded(picture(number, 64, 64), "TIFF")
        files[f"stack1/membranes/{number:02d}.png"] = encoded(disk(64, 64, 8, 8, 8))
    return files


def nuclei() -> dict[str, bytes]:
    """Two images, one of them bright, with two and one nuclei."""
    files = {}
    for name, seed, level, sides in (("aa", 1, 20, (4, 8)), ("bb", 2, 200, (6,))):
        pixels = np.full((40, 48, 4), 255, np.uint8)
        pixels[:, :, :3] = (picture(seed) // 16 + level)[:, :, None]
        files[f"stage1_train/{name}/images/{name}.png"] = encoded(pixels)
        for number, side in enumerate(sides):
            mask = disk(left=4 + 20 * number, side=side).astype(np.uint8) * 255
            files[f"stage1_train/{name}/masks/{number}.png"] = encoded(mask)
    return files


SETS = {each.__name__: each for each in (busi, usgra, cxr_lungs, ccp, camvid, em_membranes, nuclei)}


def write(files: dict[str, bytes], folder: Path) -> Path:
    """Write originals as they lie in a mirror: owner/repository/commit/path."""
    for path, content in files.items():
        file = folder / "own/repo" / COMMIT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def write_card(name: str, files: dict[str, bytes], folder: Path, address: str = "http://127.0.0.1:9/") -> None:
    """Put the project's card of that name into `folder`, with a table of these files and another address."""
    folder.mkdir(parents=True, exist_ok=True)
    card = (paths.REPOSITORY / "data_manifests" / f"{name}.toml").read_text(encoding="utf-8")
    lines = [f'address = "{address}"' if line.startswith("address") else line for line in card.splitlines()]
    (folder / f"{name}.toml").write_text("\n".join(lines), encoding="utf-8")
    rows = ["repository,commit,path,bytes,sha256"]
    for path, content in files.items():
        rows.append(f"own/repo,{COMMIT},{path},{len(content)},{hashlib.sha256(content).hexdigest()}")
    (folder / f"{name}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
