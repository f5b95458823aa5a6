"""The report on checkpoints of any network: all of it checked, then the notebook `probe` executed and rendered."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from analysis.probe.subjects import open_subjects
from analysis.probe.with_images import plan
from analysis.reports.build import Reporter
from analysis.reports.front.gallery import write_gallery
from analysis.reports.parameters import NOTEBOOKS, Job, check_parameters
from lib.common import paths
from lib.common.errors import StudyError
from lib.networks.foreign import named, trust
from lib.study import engines

NOTEBOOK = NOTEBOOKS / "probe" / "probe.ipynb"


def build_probe(
    folders: Sequence[str],
    *,
    networks: Sequence[str] = (),
    images: str = "",
    layers: Sequence[str] = (),
    out: str | None = None,
) -> int:
    """Execute and render the report on one or two folders of checkpoints.

    Args:
        folders: of checkpoints.
        networks: see `analysis.probe.networks.load_network`, found from the current folder; one for all folders, or one
            for each; none for weights alone.
        images: a prepared task, a folder or a tensor file (see `analysis.probe.probe_images.read_images`), or "".
        layers: a pattern for all folders, or one for each; none for a choice.
        out: folder of the report; None: `probe/NAME` among the reports.

    Returns:
        0, or 1 if the notebook did not end ok.

    Raises:
        StudyError: images without a network; a folder, file, network, image or pattern that is not as it should be;
            nothing was started.
    """
    if images and not networks:
        raise StudyError("images say something through a network only; give --network")
    if layers and not images:
        raise StudyError("--layers chooses among layers that are seen on images; give --images")
    for network in networks:
        trust(named(network)[0])  # the user typed it; the kernel inherits it
    here = str(Path.cwd())
    subjects = open_subjects(folders, networks, here)
    for subject in subjects:
        subject.unread()  # fits every checkpoint to the network, or says which does not fit
    if images:
        plan(subjects, images, layers)
    title = " and ".join(subject.title for subject in subjects)
    folder = Path(out).resolve() if out else paths.reports_dir() / "probe" / title.replace("/", "-").replace(" ", "-")
    given_parameters = {
        "folders": [str(Path(each).resolve()) for each in folders],
        "networks": list(networks),
        "images": str(Path(images).resolve()) if Path(images).exists() and images else images,
        "layers": list(layers),
        "path": here,
        "report": str(folder / NOTEBOOK.stem),
    }
    job = Job(NOTEBOOK, check_parameters(NOTEBOOK, given_parameters), frozenset(given_parameters))
    reporter = Reporter("probe", 1, None, threads=engines.cores())
    reporter.folder = folder
    reporter.say(f"{title}: {sum(len(each.series.moments) for each in subjects)} checkpoints, into {folder}")
    with ThreadPoolExecutor(1) as pool:  # so that an interrupt reaches this thread, which can end the kernel
        try:
            status = pool.submit(reporter.run, job).result()
        except KeyboardInterrupt:
            reporter.stop()
            raise
    finished = f"{datetime.now():%Y-%m-%d %H:%M}"
    write_gallery(folder, title=f"Probe: {title}", commit=reporter.commit, finished=finished, results=None)
    reporter.say(f"open {folder / NOTEBOOK.stem}.html")
    return int(status != "ok")
