"""Where things lie: one root for all that a study makes, and the data root, each with its origin."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lib.common.errors import StudyError

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def home() -> Path:
    """Root of everything a study makes: `STUDY_HOME`, else the repository."""
    return Path(os.environ.get("STUDY_HOME") or REPOSITORY).expanduser().resolve()


def check_home() -> None:
    """Make sure that `home()` is a folder that can be written to.

    Raises:
        StudyError: it is not, and cannot become one.
    """
    try:
        home().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home()):
            pass
    except OSError as error:
        raise StudyError(f"cannot write in {home()} ({error.strerror}); set STUDY_HOME to another folder") from error


def data_root() -> Path:
    """Folder of the prepared datasets: `STUDY_DATA`, else `data` under `home()`."""
    given = os.environ.get("STUDY_DATA")
    return Path(given).expanduser().resolve() if given else home() / "data"


def data_origin() -> str:
    """How `data_root()` came about, for error messages."""
    if os.environ.get("STUDY_DATA"):
        return "from the variable STUDY_DATA"
    if os.environ.get("STUDY_HOME"):
        return "under STUDY_HOME; set STUDY_DATA to use another folder"
    return "the default; set STUDY_DATA to use another folder"


def runs_dir() -> Path:
    """Folder that holds one folder per run."""
    return home() / "runs"


def reports_dir() -> Path:
    """Folder that holds one folder per suite's reports."""
    return home() / "reports"


def weights_dir() -> Path:
    """Folder for weights that a user brings along."""
    return home() / "weights"


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old one or the new one and nothing between.

    Raises:
        OSError: the file could not be written (disk full, no permission); what stood at `path` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    blob = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(blob)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files private; runs are meant to be shared
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
