"""The rules of the house that a machine can check: imports, environments, notebooks, sizes, the Makefile."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent

# A module may import those before it, never those after it. A new module takes its place here.
ORDER = {
    "lib": [
        "__init__", "errors", "registry", "paths", "provenance", "progress", "card", "manifests", "mri", "volumes",
        "kspace", "scans", "simulate", "batches", "tasks", "stages", "models", "cascade", "adapters", "channels",
        "frozen", "gabor", "laws", "strategies", "metrics", "image_metrics", "spec", "runs", "objective",
        "reconstruction", "train", "engines", "suites", "study", "datasets", "data_cli", "__main__",
    ],
    "analysis": [
        "__init__", "stats",
        # representations
        "gram", "canonical", "measures", "conformance", "activations", "streaming", "representations", "pairs",
        "prepared", "compare", "resampling", "anatome_backend",
        # filters
        "kernels", "wishart", "matching", "patterns", "filters", "factors", "randomness_tests", "two_sample",
        "randomness", "calibration", "foreign", "riddle",
        # outcomes, claims, figures, reports
        "arms", "rows", "outcomes", "verdicts", "leads", "transfer_value", "filter_claims", "frozen_encoder", "series",
        "variability", "evolution", "reuse", "reuse_claims", "layer_sets", "layer_speed", "which_layers", "texture",
        "recommend", "linear_finetuning", "reconstructions", "compressed_sensing", "coil_calibration", "classical",
        "mri_examples", "claims", "filter_views", "records", "overview", "looks", "pictures", "figures",
        "figures_value", "figures_filters", "figures_random", "figures_linear", "figures_mri", "figures_layers",
        "figures_runs", "figures_subsets", "teaching", "explore", "parameters", "execution", "pages", "reports",
        "__main__",
    ],
}  # fmt: skip
# What `lib` may import at module level, so that a bare GPU machine with PyTorch can train.
LIGHT = {"torch", "numpy", "scipy", "safetensors", "lib"} | set(sys.stdlib_module_names)


def package_files() -> list[Path]:
    return [path for package in ORDER for path in sorted((ROOT / package).rglob("*.py"))]


def text_files() -> list[Path]:
    """Every text file that belongs to the project, wherever it is checked out."""
    skipped = {".git", ".venv", "runs", "reports", "data", "weights", "__pycache__", "build", "dist"}
    kinds = {"py", "md", "toml", "txt", "yml", "cff", "ipynb", "csv", "j2", "css", "mplstyle", "json"}
    found = []
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part not in {".ci", ".gitignore"} for part in parts)
        if path.is_file() and path.suffix.removeprefix(".") in kinds | {""} and not hidden and not skipped & set(parts):
            found.append(path)
    return found


def imports(tree: ast.AST, package: str) -> list[str]:
    """Dotted names of all that a module imports, also inside functions; `from lib import x` is `lib.x`."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in {package}; write it out"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_imports_run_one_way():
    seen = 0
    for path in package_files():
        package, *rest = path.relative_to(ROOT).with_suffix("").parts
        own = rest[0]
        assert own in ORDER[package], f"{path.relative_to(ROOT)} has no place in ORDER; give it one"
        seen += 1
        for name in imports(ast.parse(path.read_text()), package):
            head, *tail = name.split(".")
            foreign = {"notebooks", "tests", "torchvision"} | ({"analysis"} if package == "lib" else set())
            assert head not in foreign, f"{path.relative_to(ROOT)} imports {name}"
            if head == package and tail and tail[0] in ORDER[package] and tail[0] != own:
                before = ORDER[package].index(tail[0]) < ORDER[package].index(own)
                assert before, f"{path.relative_to(ROOT)} imports {name}, which stands below it"
    assert seen >= 20


def test_training_imports_little():
    seen = 0
    for path in sorted((ROOT / "lib").rglob("*.py")):
        tree = ast.parse(path.read_text())
        top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        heavy = {name.split(".")[0] for name in imports(top, "lib")} - LIGHT
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy}; do that inside the function"
        seen += 1
    assert seen >= 15


def test_files_stay_short():
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in package_files()}
    assert len(lengths) >= 20
    assert not {path: n for path, n in lengths.items() if n > 300}


def test_environment_files_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    torch = Requirement((ROOT / "requirements/torch.txt").read_text().strip())
    lock = (ROOT / "requirements/lock.txt").read_text()
    pins = [line.removesuffix("\\").strip() for line in lock.splitlines() if re.match(r"\S+==", line)]
    assert len(pins) > 100

    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert conda[:3] == ["python=3.11", "pip", "make"]
    assert conda[3]["pip"] == ["-r requirements/torch.txt", *pins, "-e ."]

    locked: dict[str, list[str]] = {}
    for pin in map(Requirement, pins):
        locked.setdefault(pin.name, []).append(next(iter(pin.specifier)).version)
    assert not {name for name in locked if name in {"torch", "torchvision"} or name.startswith("nvidia")}
    assert lock.count("--hash=sha256:") >= len(pins)
    assert "://" not in lock

    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    for requirement in map(Requirement, wanted):
        versions = locked.get(requirement.name, [])
        if requirement.name == "torch":
            versions = [next(iter(torch.specifier)).version]
        assert versions, f"{requirement.name} is not locked; run make lock"
        assert all(requirement.specifier.contains(Version(version)) for version in versions), requirement


def notebook_files() -> list[Path]:
    found = sorted((ROOT / "notebooks").rglob("*.ipynb"))
    return [path for path in found if ".ipynb_checkpoints" not in path.parts]


def test_there_are_notebooks():
    assert len(notebook_files()) >= 4


@pytest.mark.parametrize("path", notebook_files(), ids=lambda path: path.stem)
def test_notebook_is_clean(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code):
        assert not cell.outputs, f"code cell {number} holds outputs"
        assert cell.execution_count is None, f"code cell {number} holds an execution count"
        kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef}, f"code cell {number} defines something"


@pytest.mark.parametrize("path", notebook_files(), ids=lambda path: path.stem)
def test_notebook_parameters_are_all_seen(path: Path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1, "one cell, tagged parameters"
    body = ast.parse(cells[0].source).body
    assert all(isinstance(node, ast.AnnAssign) for node in body), "write name: type = value"
    for node in body:
        ast.literal_eval(node.value)  # a derived value would keep its old default
    declared = {node.target.id for node in body}
    # papermill loses a line whose comment holds a second equals sign, and the injected value with it
    assert set(papermill.inspect_notebook(str(path))) == declared
    assert "report" in declared
    assert len(declared) <= 6


def test_nothing_names_a_registry_or_a_local_path():
    hosts = ["pypi" + ".org", "python" + "hosted", "anaconda" + ".org", "npm" + "js", "download.py" + "torch"]
    local = re.compile(r"(?<![\w.:/$}~-])/(work|home|root|Users|tmp|opt|mnt)/\w")
    files = text_files()
    assert len(files) >= 40
    for path in files:
        text = path.read_text()
        named = [host for host in hosts if host in text] + [found.group() for found in local.finditer(text)]
        assert not named, f"{path.relative_to(ROOT)} names {named}"


def test_make_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    phony = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    assert {"setup", "report", "test", "lab", "lint", "lock", "clean"} <= set(phony)
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in set(phony) - {"help"}:
        lines = re.findall(rf"^  {target} +\S", listed.stdout, re.M)
        assert len(lines) == 1, f"make alone does not list {target} in one line"
