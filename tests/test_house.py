"""The rules of the house that a machine can check: imports, environments, notebooks, sizes, the Makefile."""

from __future__ import annotations

import ast
import importlib
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

from analysis.claims import evaluate
from analysis.tables import evaluation_table, run_table

ROOT = Path(__file__).resolve().parent.parent

# What `lib` may import at module level, so that a bare GPU machine with PyTorch can train.
LIGHT = {"torch", "numpy", "scipy", "safetensors", "lib"} | set(sys.stdlib_module_names)


def package_files() -> list[Path]:
    return [path for package in ("lib", "analysis") for path in sorted((ROOT / package).rglob("*.py"))]


def house_map() -> dict[str, list[str]]:
    """What is in each package, in the order of imports, as the table of CONTRIBUTING says it."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| `((?:lib|analysis)[\w/]*)` \|[^|]+\|([^|]+)\|$", text, re.M)
    return {package: re.findall(r"`(\w+)/?`", files) for package, files in rows}


def module_of(name: str) -> str | None:
    """The module of this project that a dotted name of an import stands in; a package is its own `__init__`."""
    while name:
        path = ROOT / name.replace(".", "/")
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return name
        name = name.rpartition(".")[0]
    return None


def text_files() -> list[Path]:
    """Every text file that belongs to the project, wherever it is checked out."""
    skipped = {".git", ".venv", "runs", "reports", "cache", "data", "weights", "__pycache__", "build", "dist"}
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


def test_the_map_shows_every_room_and_no_room_is_full():
    shown = house_map()
    packages = {str(path.parent.relative_to(ROOT)) for path in package_files() if path.name == "__init__.py"}
    assert set(shown) == packages
    assert len(packages) >= 20
    for package, members in shown.items():
        inside = [path for path in (ROOT / package).iterdir() if path.name != "__pycache__"]
        rooms = {path.name for path in inside if (path / "__init__.py").is_file()}
        files = {path.stem for path in inside if path.suffix == ".py" and path.name != "__init__.py"}
        assert sorted(members) == sorted(rooms | files), f"the map of {package} in CONTRIBUTING.md"
        assert len(rooms) <= 9, f"{package} has {len(rooms)} packages: put some together"
        assert len(files) <= 12, f"{package} has {len(files)} files: part it"
        assert ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())), (
            f"{package} does not say what it is"
        )


def test_imports_run_one_way():
    shown, seen = house_map(), 0
    for path in package_files():
        package = path.relative_to(ROOT).parts[0]
        own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in imports(ast.parse(path.read_text()), package):
            head = name.split(".")[0]
            foreign = {"notebooks", "tests", "torchvision"} | ({"analysis"} if package == "lib" else set())
            assert head not in foreign, f"{path.relative_to(ROOT)} imports {name}"
            other = module_of(name)
            if head != package or other is None or path.name == "__init__.py":
                continue
            ours, theirs = own.split("."), other.split(".")
            depth = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
            order = shown["/".join(ours[:depth])]
            before = order.index(theirs[depth]) < order.index(ours[depth])
            assert before, f"{path.relative_to(ROOT)} imports {name}, which the map of CONTRIBUTING.md puts below it"
            seen += 1
    assert seen >= 300


def test_a_package_is_imported_from_by_users_alone():
    """Inside the house a name is imported from the file that defines it; what a package exports is for notebooks."""
    faces = {
        path.parent: path for path in package_files() if path.name == "__init__.py" and "__all__" in path.read_text()
    }
    assert len(faces) >= 10
    for folder, face in faces.items():
        exported = set(importlib.import_module(".".join(folder.relative_to(ROOT).parts)).__all__)
        inside = {path.stem for path in folder.iterdir()}
        assert not exported & inside, f"{face.relative_to(ROOT)} exports a name that is also a module"
    for path in package_files():
        for name in imports(ast.parse(path.read_text()), ""):
            other = module_of(name)
            if other is not None and path.name != "__init__.py":
                assert ROOT / other.replace(".", "/") not in faces, f"{path.relative_to(ROOT)} imports {name}"


NO_TOPICS = {"ledger", "error_rates"}


def claim_topics() -> set[str]:
    """The packages of `analysis/claims` that are topics; the others are over all of them."""
    folders = {path.name for path in (ROOT / "analysis/claims").iterdir() if path.is_dir()}
    return folders - NO_TOPICS - {"__pycache__"}


def test_no_topic_imports_a_topic():
    topics = claim_topics()
    assert len(topics) >= 6
    for topic in topics:
        for path in sorted((ROOT / "analysis/claims" / topic).rglob("*.py")):
            for name in imports(ast.parse(path.read_text()), "analysis"):
                parts = name.split(".")
                assert parts[:2] != ["analysis", "claims"] or parts[2] not in topics - {topic} | NO_TOPICS, (
                    path,
                    name,
                )


def test_every_topic_is_that_of_one_notebook():
    topics = claim_topics()
    names = [path.stem.partition("_")[2] for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert [names.count(topic) for topic in topics] == [1] * len(topics)


def test_the_ledger_says_where_a_claim_is():
    """Notebook, published figure or table, and the function that decides: all three are there."""
    nothing = run_table([])
    rows = evaluate(nothing, evaluation_table([]))
    assert len({row["id"] for row in rows}) >= 27
    for row in rows:
        source = (ROOT / "notebooks" / f"{row['notebook']}.ipynb").read_text()
        quoted = f'\\"{row["figure"]}\\"'
        assert f"publish({quoted}" in source or f"publish(f{quoted}" in source, row
        module, _, function = row["test"].rpartition(".")
        assert callable(getattr(importlib.import_module(module), function)), row
        assert row["notebook"].partition("_")[2] == module.split(".")[2], row


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
