"""What tests of the probe share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from probed import CODE


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module `foreign_net` of the user's own in the current folder."""
    (tmp_path / "foreign_net.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "foreign_net", raising=False)
    return "foreign_net:build"
