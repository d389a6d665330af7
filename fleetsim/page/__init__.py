"""The page of a run: `fleetsim report RUN --html FILE --charts DIR`, in one file that is read anywhere and asks nobody.

And those of runs beside each other, `fleetsim compare RUN RUN --html FILE`, and of sweeps.

`charts` says which there are and aggregates what they show, `drawing` draws them, `document` puts the page together;
`comparison` does both for runs beside each other, `cases` for sweeps.
Nothing is drawn from VMs one by one, so that page and time hardly grow with the fleet.
"""

import os
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetsim.comparing import Comparison
from fleetsim.errors import InputError, nearest_path
from fleetsim.page import drawing
from fleetsim.page.cases import page_of_sweep
from fleetsim.page.charts import Lacking, charts_of
from fleetsim.page.comparison import page_of_comparison
from fleetsim.page.document import page_of, page_of_unfinished
from fleetsim.page.drawing import Chart
from fleetsim.progress import Progress
from fleetsim.reporting import Report, report
from fleetsim.responses import Sweep
from fleetsim.storage import Url, local
from fleetsim.verifier import Verdict, verify

__all__ = ["Page", "write_comparison", "write_page", "write_sweep"]

CHART_NAME_LENGTH_MAX = 80
"""Letters of the name of a chart's file, at most."""


@dataclass(frozen=True)
class Page:
    """What was written: the report (None: the run is unfinished), the verdict if it was asked for, and the charts.

    `lacking` maps the title of each chart that the run does not have to why not.
    """

    report: Report | None
    verdict: Verdict | None
    charts: tuple[str, ...]
    lacking: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The page as plain values, for JSON."""
        return {
            "is_finished": self.report is not None,
            "verified": None if self.verdict is None else self.verdict.ok,
            "charts": list(self.charts),
            "lacking": self.lacking,
        }


def write_page(
    run: str | Path | Url,
    *,
    html: str | Path | None = None,
    charts: str | Path | None = None,
    by: Sequence[str | Sequence[str]] = (),
    only: Sequence[str] | Mapping[str, str | Sequence[str]] = (),
    timeouts: Sequence[str] = (),
    verified: bool = False,
    progress: Progress | None = None,
) -> Page:
    """Write the page of the run in folder *run* to the file *html*, its charts to the new or empty folder *charts*.

    *by*, *only* and *timeouts* are those of `fleetsim.report`. With *verified* the verifier is asked first, and the
    page says what it found; else that nobody asked. Each chart becomes `NAME.svg`, `NAME.png` and `NAME.parquet`, the
    rows it is drawn from; NAME says what it shows and, of several campaigns, of which: `timeline-hypervisor`. A file
    *html* is replaced, at once. Of an unfinished run the page says that it is, and what was asked for.

    Raise `InputError` as `fleetsim.report` does, where *html* and *charts* are both None or cannot be written, or the
    extra `fleetsim[page]` is not installed.
    """
    page, folder = _places(html, charts)
    drawing.check_installed()
    path = local(run)
    unfinished = _asked_of_unfinished(path)
    if unfinished is not None:
        why = f"{run}: is not finished; `fleetsim run ... --resume` goes on with it"
        if page is None:
            raise InputError(f"{why}: it has no charts yet")
        _replace(page, page_of_unfinished(path, unfinished, why))
        return Page(None, None, (), {"all charts": "the run is not finished"})
    with ThreadPoolExecutor(1) as pool:
        # What draws takes a second or two to start, in which the figures are computed.
        warm = pool.submit(drawing.warm_up)
        made = report(run, by=by, only=only, timeouts=timeouts, progress=progress)
        verdict = verify(run, progress=progress) if verified else None
        found = charts_of(made)
        warm.result()
    drawn = [each for each in found if isinstance(each, Chart)]
    if page is not None:
        _replace(page, page_of(made, found, verdict))
    if folder is not None:
        _write_charts(folder, drawn)
    lacking = {each.title: each.why for each in found if isinstance(each, Lacking)}
    return Page(made, verdict, tuple(each.name for each in drawn), lacking)


def write_comparison(comparison: Comparison, html: str | Path, *, progress: Progress | None = None) -> None:
    """Write the page of *comparison*, which `fleetsim.compare` made, to the file *html*; one that is there is replaced.

    Raise `InputError` where *html* cannot be written, or the extra `fleetsim[page]` is not installed.
    """
    page, _ = _places(html, None)
    drawing.check_installed()
    assert page is not None
    _replace(page, page_of_comparison(comparison, progress))


def write_sweep(sweep: Sweep, html: str | Path) -> None:
    """Write the page of *sweep*, which `fleetsim.sweep` made, to the file *html*; one that is there is replaced.

    Raise `InputError` where *html* cannot be written, or the extra `fleetsim[page]` is not installed.
    """
    page, _ = _places(html, None)
    drawing.check_installed()
    assert page is not None
    _replace(page, page_of_sweep(sweep))


def _places(html: str | Path | None, charts: str | Path | None) -> tuple[Path | None, Path | None]:
    """The file and the folder to write; raise `InputError`, before anything is computed, where that cannot be."""
    page, folder = (None if each is None else _named(Path(each)) for each in (html, charts))
    if page is None and folder is None:
        raise InputError("html, charts: must ask for one at least, got none")
    problems = [
        f"{path}: must be a shorter name, got one that the file system does not take: {why}"
        for path, inside in ((page, None), (folder, "n" * CHART_NAME_LENGTH_MAX))
        if path is not None and (why := _why_no_name(path, inside))
    ]
    if problems:
        raise InputError(problems)
    if page is not None and folder is not None and page.absolute() == folder.absolute():
        problems.append(f"{page}: must be a file for the page and a folder for charts, got one name for both")
    if page is not None and page.is_dir():
        problems.append(f"{page}: must be a file, got a folder")
    for path in (page, folder):
        if path is not None and not (parent := path.absolute().parent).is_dir():
            problems.append(f"{path}: must be in a folder that is there, got none{nearest_path(parent)}")
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = f"a folder with '{min(folder.iterdir()).name}' in it" if folder.is_dir() else "a file"
        problems.append(f"{folder}: must be a new or an empty folder, got {found}")
    for path in [*([page] if page is not None else []), *([folder] if folder is not None else [])]:
        place = path if path == folder and path.is_dir() else path.absolute().parent
        if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
            problems.append(f"{path}: must be where we may write, got a folder that is not ours to write in")
    if problems:
        raise InputError(problems)
    return page, folder


def _asked_of_unfinished(run: Path) -> dict[str, Any] | None:
    """What an unfinished run was asked for; None where it is finished, or no run at all."""
    if (run / "manifest.json").exists() or not (run / "resolved.toml").is_file():
        return None
    try:
        return tomllib.loads((run / "resolved.toml").read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{run}/resolved.toml: must be readable TOML, got {error}") from error


def _named(path: Path) -> Path:
    """*path*, by its real name if it is `.` or ends in `..`."""
    return path if path.name not in ("", "..") else path.resolve()


def _unfinished(path: Path) -> Path:
    """What *path* is called while it is written."""
    return path.absolute().with_name(f".{path.absolute().name}.unfinished")


def _why_no_name(path: Path, inside: str | None) -> str | None:
    """Why nothing can be called *path*, or *inside* of it; None where it can be."""
    names = [path, _unfinished(path)] if path.absolute().name else [path]
    for each in [*names, *(name / inside for name in names if inside is not None)]:
        try:
            os.lstat(each)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except OSError as error:
            return str(error.strerror).lower()
        except ValueError as error:
            return str(error)
    return None


def _replace(path: Path, text: str) -> None:
    unfinished = _unfinished(path)
    try:
        unfinished.write_text(text, "utf-8", newline="\n")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_charts(folder: Path, charts: Sequence[Chart]) -> None:
    # Into a folder that is there, which may be the one we are in, files are moved; a new one comes as a whole.
    is_there = folder.is_dir()
    unfinished = folder.absolute() / ".unfinished" if is_there else _unfinished(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        for chart in charts:
            (unfinished / f"{chart.name}.svg").write_text(chart.svg(), "utf-8", newline="\n")
            (unfinished / f"{chart.name}.png").write_bytes(chart.png())
            chart.frame.write_parquet(unfinished / f"{chart.name}.parquet")
        if is_there:
            for path in sorted(unfinished.iterdir()):
                path.rename(folder.absolute() / path.name)
            unfinished.rmdir()
        else:
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
