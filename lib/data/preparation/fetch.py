"""Originals, from the network or a folder, each verified before it takes its name."""

from __future__ import annotations

import errno
import logging
import shutil
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from lib.common import paths
from lib.common.errors import StudyError
from lib.common.progress import time_text
from lib.data.cards import Card
from lib.data.preparation.originals import Original, intact, originals_dir, places, table_of

CONNECTIONS = 8
SECONDS = (10.0, 30.0)  # to connect, and without a byte, before a connection counts as broken
TRIES = 3
PAUSE = 1.0  # seconds before the second try; before the third it is twice that


class MovingLine:
    """One line that tells how many of `total` things are done, and the time left; in a log, a line now and then.

    Args:
        what: what is counted, with its verb ("files fetched").
        megabytes: size of all things together, where that says more than their number.
    """

    def __init__(self, what: str, total: int = 0, megabytes: float = 0.0, *, every: float = 10.0) -> None:
        self.what, self.total, self.megabytes = what, total, megabytes
        self.terminal = sys.stderr.isatty()
        self.every = 0.2 if self.terminal else every
        self.began = self.shown = time.monotonic()

    def __call__(self, done: int, total: int | None = None, megabytes: float = 0.0) -> None:
        """Show how far it is, if the last showing is long enough ago."""
        self.total = self.total if total is None else total
        now = time.monotonic()
        if now - self.shown < self.every and (done < self.total or not self.terminal):
            return
        self.shown = now
        share = megabytes / self.megabytes if self.megabytes else done / max(1, self.total)
        left = f"{time_text((now - self.began) * (1 - share) / share)} left" if share > 0 else "time left unknown yet"
        size = f", {megabytes:.1f} of {self.megabytes:.1f} MB" if self.megabytes else ""
        line = f"{done} of {self.total} {self.what}{size}, {left}"
        start, end = ("\r\033[K", "") if self.terminal else ("", "\n")
        print(start + line, end=end, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the moving line, so that what is printed next has a line of its own."""
        if self.terminal:
            print(file=sys.stderr, flush=True)


def fetch(
    card: Card, *, source: Path | None = None, base: str | None = None, show: Callable[[str], None] = print
) -> Path:
    """Get every original of a dataset that is not there yet; what is there and right is left alone.

    Args:
        source: a folder that holds the originals, as <owner>/<repository>/<commit>/<path> or as <path>; they are
            copied from it, and the network is left alone.
        base: an address to use in place of the card's. It may hold {repository} and {commit}; if it does not, they
            are expected as folders below it.
        show: told what will be done, and the outcome.

    Returns:
        The folder of originals.

    Raises:
        StudyError: a file is not to be had, is not the one of the table, or cannot be stored. No file is left
            half-written, those got before are kept, and calling again goes on from there.
    """
    rows = table_of(card)
    target = originals_dir(card)
    try:
        wanted = [row for row in rows if not intact(row, target / places(row)[0])]
        size = sum(row.bytes for row in wanted)
        show(f"{card.name}: {len(rows) - len(wanted)} of {len(rows)} originals are in {target}")
        if wanted:
            target.mkdir(parents=True, exist_ok=True)
            _require_space(size, target)
            if source is not None:
                _copy(card, wanted, source, target)
            else:
                _download(wanted, base or card.address, target)
            show(f"{card.name}: {len(wanted)} originals ({size / 1e6:.1f} MB) fetched and verified")
    except OSError as error:  # StudyErrors pass
        raise StudyError(f"{card.name}: cannot store originals in {target}: {_reason(error)}; {KEPT}") from error
    return target


KEPT = "what was fetched before is kept; mend that and call again to go on"


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return error.strerror or str(error)


def _require_space(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise StudyError(
            f"{size / 1e6:.0f} MB are to be fetched, but {folder} has {free / 1e6:.0f} MB free; make room, or set "
            f"STUDY_HOME to a larger disk"
        )


def _copy(card: Card, wanted: list[Original], source: Path, target: Path) -> None:
    if not source.is_dir():
        raise StudyError(f"no folder {source}; --from takes a folder that holds the originals of {card.name}")
    line = MovingLine("files copied", len(wanted))
    absent: list[Original] = []
    wrong: list[Path] = []
    for done, row in enumerate(wanted):
        line(done)
        file = next((source / place for place in places(row) if (source / place).is_file()), None)
        if file is None:
            absent.append(row)
        elif intact(row, file):
            paths.write_atomic(target / places(row)[0], file.read_bytes())
        else:
            wrong.append(file)
    line.end()
    if wrong:
        raise StudyError(
            f"{len(wrong)} files in {source} are not the originals (size or sha256 differ), the first is {wrong[0]}; "
            f"{KEPT}"
        )
    if absent:
        raise StudyError(
            f"{len(absent)} of {len(wanted)} originals are not in {source}, the first is {places(absent[0])[0]}; what "
            f"is there was copied. Fetch the rest without --from, or prepare what is there with --allow-partial"
        )


def _download(wanted: list[Original], base: str, target: Path) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # our line says it
    for folder in {(target / places(row)[0]).parent for row in wanted}:
        folder.mkdir(parents=True, exist_ok=True)  # here, because threads would race for it
    line = MovingLine("files fetched", len(wanted), sum(row.bytes for row in wanted) / 1e6)
    pool = ThreadPoolExecutor(CONNECTIONS)
    try:
        jobs: dict[Future[None], Original] = {pool.submit(_get, row, base, target): row for row in wanted}
        megabytes = 0.0
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()  # the first failure ends the loop
            megabytes += jobs[job].bytes / 1e6
            line(done, megabytes=megabytes)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        line.end()


def address(row: Original, base: str) -> str:
    """The address of an original below `base`."""
    if "{repository}" not in base and "{commit}" not in base:
        base = base.rstrip("/") + "/{repository}/{commit}/"
    for key, value in (("{repository}", row.repository), ("{commit}", row.commit)):
        base = base.replace(key, urllib.parse.quote(value))
    return base.rstrip("/") + "/" + urllib.parse.quote(row.path)


def _get(row: Original, base: str, target: Path) -> None:
    """Fetch one file through pooch, which verifies a temporary file and only then gives it its name."""
    import pooch
    from requests.exceptions import HTTPError, InvalidSchema, InvalidURL, MissingSchema, RequestException, Timeout

    url, file = address(row, base), target / places(row)[0]
    remedy = f"try another mirror with --base, or a folder that holds the originals with --from; {KEPT}"
    for waits in _waits():
        try:
            # whole files of a few MB at once: a stream that fails would leave its connection open
            downloader = pooch.HTTPDownloader(timeout=SECONDS, chunk_size=1 << 16, stream=False)
            pooch.retrieve(
                url,
                known_hash=f"sha256:{row.sha256}",
                fname=file.name,
                path=file.parent,
                downloader=downloader,  # pyright: ignore[reportArgumentType]  # its protocol names arguments otherwise
            )
            file.chmod(0o644)  # temporary files are private
            return
        except HTTPError as error:
            answer = error.response
            if answer is None or answer.status_code < 500 or waits is None:
                said = "nothing" if answer is None else f"{answer.status_code} ({answer.reason})"
                raise StudyError(f"{url}: the server answered {said}; {remedy}") from error
        except (MissingSchema, InvalidSchema, InvalidURL) as error:
            raise StudyError(f"{url} cannot be fetched; --base takes an address, http:// or https://") from error
        except Timeout as error:
            if waits is None:
                raise StudyError(
                    f"{url}: no answer within {SECONDS[1]:.0f} s (is there a network?); {remedy}"
                ) from error
        except RequestException as error:
            if waits is None:
                raise StudyError(f"{url}: {_broken(error)}; {remedy}") from error
        except ValueError as error:  # the hash
            raise StudyError(
                f"{url}: what came is not the file of the table (sha256 differs from {row.sha256[:12]}…) and was "
                f"deleted; {remedy}"
            ) from error
        time.sleep(waits)


def _waits() -> Iterator[float | None]:
    """Seconds to wait before the next try; None says that there is none."""
    yield from (PAUSE * number for number in range(1, TRIES))
    yield None


def _broken(error: Exception) -> str:
    text = str(error)
    if "IncompleteRead" in text or "ncomplete" in text or "Connection broken" in text:
        return "the download was cut off"
    return "the server cannot be reached (is there a network?)"
