"""Parts of a probe are kept by content: nothing is computed twice, and nothing that has changed is taken for old."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from probed import CODE, retrained, save_series

from analysis.filters import change
from analysis.probe import weights_alone, with_images
from analysis.probe.kept import kept_folder
from analysis.probe.subjects import open_subjects
from analysis.probe.weights_alone import moves, randomness
from analysis.probe.with_images import activations_of, similarities
from analysis.representations.comparison import compare

PARTS = {"_table": 2, "laws_at_start": 1, "battery": 1, "represent_model": 3, "_prepare": 1}  # of three checkpoints


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each costly part was computed."""
    counts: Counter[str] = Counter()

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **options: Any) -> Any:
            counts[name] += 1
            return real(*args, **options)

        return inner

    places = [change, weights_alone, weights_alone, with_images, compare]
    for place, name in zip(places, PARTS, strict=True):
        monkeypatch.setattr(place, name, counted(name, getattr(place, name)))
    return counts


def probe(tmp_path: Path, code: str, report: Callable[[str], None] | None = None) -> list[pd.DataFrame]:
    """All tables of a folder."""
    (subject,) = open_subjects([str(tmp_path / "a")], [code])
    found = [moves(subject, report), *randomness(subject, draws=199, report=report)[:2]]
    kept, _ = activations_of([subject], str(tmp_path / "images.pt"), report=report)
    return [*found, similarities(kept).table()]


@pytest.fixture
def folder(code: str, tmp_path: Path) -> Path:
    save_series(tmp_path / "a", 0)
    torch.save({"images": torch.randn(20, 1, 16, 16)}, tmp_path / "images.pt")
    return tmp_path


def test_a_second_call_computes_nothing_and_gives_the_same(folder: Path, code: str, computed: Counter[str]):
    lines: list[str] = []
    first = probe(folder, code, lines.append)
    assert computed == PARTS
    assert not any(line.endswith("(kept)") for line in lines)
    computed.clear()
    second = probe(folder, code, lines.append)
    assert computed == {}
    assert [line.removesuffix(" (kept)") for line in lines[len(lines) // 2 :]] == lines[: len(lines) // 2]
    for one, other in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_one_changed_checkpoint_is_computed_anew_and_no_other(folder: Path, code: str, computed: Counter[str]):
    first = probe(folder, code)
    computed.clear()
    file = folder / "a" / "step=10.ckpt"
    content = torch.load(file)
    weights = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    torch.save({**content, "state_dict": retrained(weights, 0.5)}, file)
    second = probe(folder, code)
    assert computed == {"_table": 1, "represent_model": 1, "_prepare": 1}
    early, late = (each["at"] == at for each in (first[0],) for at in (10, 200))
    assert (second[0][early].angle_median - first[0][early].angle_median).abs().max() > 1
    pd.testing.assert_frame_equal(second[0][late], first[0][late])
    pd.testing.assert_frame_equal(second[1], first[1])


@pytest.mark.parametrize("damage", ["cut short", "of another"])
def test_a_damaged_file_is_computed_anew(folder: Path, code: str, computed: Counter[str], damage: str):
    first = probe(folder, code)
    files = sorted(kept_folder().iterdir())
    assert len(files) == sum(PARTS.values())
    other = files[0].read_bytes()
    for file in files[damage != "cut short" :]:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if damage == "cut short" else other)
    computed.clear()
    second = probe(folder, code)
    assert sum(computed.values()) == len(files) - (damage != "cut short")
    for one, other in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(one, other)
    computed.clear()
    probe(folder, code)
    assert computed == {}


def test_a_probe_cut_in_the_middle_goes_on_where_it_was(folder: Path, code: str, computed: Counter[str]):
    def cut(line: str) -> None:
        if "step 10 on 20 images" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(folder, code, cut)
    assert computed["represent_model"] == 2
    computed.clear()
    probe(folder, code)
    assert computed == {"represent_model": 1, "_prepare": 1}


def test_other_code_of_the_network_and_other_images_are_no_old_ones(
    folder: Path, code: str, computed: Counter[str], monkeypatch: pytest.MonkeyPatch
):
    first = probe(folder, code)
    (folder / "foreign_net.py").write_text(CODE.replace("self.rise(self.deep", "5 * self.rise(self.deep"))
    monkeypatch.delitem(sys.modules, "foreign_net")
    computed.clear()
    second = probe(folder, code)
    assert computed == {"represent_model": 3, "_prepare": 1}
    assert not np.allclose(first[-1].value, second[-1].value)
    torch.save({"images": torch.randn(20, 1, 16, 16)}, folder / "images.pt")
    computed.clear()
    probe(folder, code)
    assert computed == {"represent_model": 3, "_prepare": 1}
