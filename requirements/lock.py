"""Writes requirements/lock.txt and environment.yml from pyproject.toml; `make lock` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# torch is installed first and alone, so that a machine takes its own build of it; torchvision is declared by
# ultimate-anatome, used by nothing here, and does not import beside a CPU build of torch. The marker that
# leaves them out stays on whatever only they need, so those entries are dropped too.
LEFT_OUT = ("torch", "torchvision")
NEVER = "sys_platform == 'never'"
CONDA = """\
# Written by `make lock`: the versions of requirements/, for conda. Use: conda env create -f environment.yml
name: palimpsest
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip
  - make
  - pip:
      - -r requirements/torch.txt
{pins}
      - -e .
"""


def resolve() -> str:
    """Everything but torch with its hashes, as a requirements file that holds no address."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = Path(folder, "overrides.txt")
        overrides.write_text("".join(f"{name} ; {NEVER}\n" for name in LEFT_OUT))
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--group", "dev"]
        command += ["--universal", "--python-version", "3.11", "--overrides", str(overrides)]
        command += [f"--no-emit-package={name}" for name in LEFT_OUT]
        command += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", *sys.argv[1:]]
        # uv keeps the versions of an existing output unless told --upgrade
        command += ["--output-file", "requirements/lock.txt"]
        subprocess.run(command, check=True, cwd=ROOT)
    entries = re.split(r"^(?=\S)", (ROOT / "requirements/lock.txt").read_text(), flags=re.M)
    return "".join(entry for entry in entries if NEVER not in entry)


def pins(lock: str) -> list[str]:
    """The `name==version ; marker` of every entry of a lock."""
    return [line.removesuffix("\\").strip() for line in lock.splitlines() if re.match(r"\S+==", line)]


def main() -> None:
    lock = resolve()
    (ROOT / "requirements/lock.txt").write_text(lock)
    lines = [f'      - "{pin}"' if ";" in pin else f"      - {pin}" for pin in pins(lock)]
    (ROOT / "environment.yml").write_text(CONDA.format(pins="\n".join(lines)))
    print(f"requirements/lock.txt and environment.yml hold {len(lines)} packages beside torch")


if __name__ == "__main__":
    main()
