"""The run folder: which files a run has, written part by part, with the manifest last.

A folder without a manifest is an unfinished run: its parts are whole, since every file is renamed into place, and
`--resume` keeps them. What a run was started with stands in `resolved.toml`, so that it can only go on as itself.
"""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fleetsim import __version__
from fleetsim.errors import InputError
from fleetsim.schema import SCHEMA_VERSION
from fleetsim.storage import REQUESTS, Place, Url, as_input, remove
from fleetsim.tables import file_sha256, folder_above, row_count, write_atomic

MANIFEST = "manifest.json"
RESOLVED = "resolved.toml"
HALF_WRITTEN = ".*.tmp"
"""Names of files not yet renamed into place (`tables.write_atomic`)."""
SCRATCH = ".scratch"
"""Folder of what processes that run a part each tell one another."""
DISK_THREADS = 4
"""Files written at once: an fsync mostly waits, and file systems commit those that wait together."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a run: path in the run folder, rows (None for text), sha256 of its bytes."""

    path: str
    rows: int | None
    sha256: str


def check_absent(out: Place, *, resume: bool = False) -> None:
    """Raise `InputError` where *out* holds something a run would overwrite, or cannot be made."""
    if isinstance(out, Path):
        folder_above(out)
    with as_input():
        _check_absent(out, resume=resume)


def _check_absent(out: Place, *, resume: bool) -> None:
    if not out.exists() or (out.is_dir() and all(path.match(HALF_WRITTEN) for path in out.iterdir())):
        return
    if not out.is_dir():
        raise InputError(f"{out}: must be a new folder for the run, found a file")
    is_run = (out / RESOLVED).exists()
    if resume and is_run:
        return
    if resume:
        raise InputError(f"{out}: must be an unfinished run to resume, found a folder without {RESOLVED}")
    if (out / MANIFEST).exists():
        raise InputError(f"{out}: must be a new folder, found a finished run; give another -o, or remove it")
    if is_run:
        raise InputError(f"{out}: must be a new folder, found an unfinished run; --resume goes on with it")
    raise InputError(f"{out}: must be a new or empty folder, found one with files in it")


class RunFolder:
    """Files of one run, as they are written. Safe to use from several threads, each with its own parts."""

    def __init__(self, path: Place) -> None:
        self.path = path
        self.parts: dict[str, Part] = {}

    def open(self) -> None:
        """Make the folder, or clear the one of an interrupted run of what was being written when it stopped."""
        if isinstance(self.path, Path):
            self.path.mkdir(parents=True, exist_ok=True)
        self.clear()

    def clear(self) -> None:
        """Remove what was being written by whom was stopped, and what is of use to a run that is not over alone."""
        remove(self.path / SCRATCH)
        for stray in self.path.rglob(HALF_WRITTEN):
            stray.unlink(missing_ok=True)

    def write(self, name: str, content: Any, rows: int | None = None) -> None:
        """Write *content* (bytes-like) as file *name*, atomically, unless it is there already to the byte."""
        path = self.path / name
        # To ask a URL takes as long as to put it there again.
        is_there = isinstance(path, Path) and path.exists() and path.read_bytes() == bytes(content)
        sha256 = hashlib.sha256(content).hexdigest() if is_there else write_atomic(path, content)
        self.parts[name] = Part(name, rows, sha256)

    def write_all(self, files: Mapping[str, tuple[Any, int | None]]) -> None:
        """Write several files, each as name: (content, rows), side by side."""
        with ThreadPoolExecutor(self.writer_count) as disk:
            list(disk.map(lambda name: self.write(name, *files[name]), files))

    def has(self, name: str) -> bool:
        """Whether file *name* is there: at a URL, whether it was when this was first asked, of any file."""
        path = self.path / name
        return path.exists() if isinstance(path, Path) else name in self._there

    def keep(self, name: str, rows: int) -> bool:
        """Whether part *name* is there, whole, from the run this one resumes; if so it is taken over."""
        path = self.path / name
        if isinstance(path, Url):
            content = path.read_bytes() if self.has(name) else b""
            if row_count(io.BytesIO(content)) != rows:
                return False
            self.parts[name] = Part(name, rows, hashlib.sha256(content).hexdigest())
            return True
        if not path.exists() or row_count(path) != rows:
            return False
        self.parts[name] = Part(name, rows, file_sha256(path))
        return True

    def link_all(self, sources: Mapping[str, tuple[Place, int, str]]) -> None:
        """Take over several files, each as name: (source, rows, sha256), side by side."""
        with ThreadPoolExecutor(self.writer_count) as disk:
            list(disk.map(lambda name: self.link(name, *sources[name]), sources))

    def link(self, name: str, source: Place, rows: int, sha256: str) -> None:
        """Take over *source* as file *name*: hard-linked where the file system allows it, else copied."""
        path = self.path / name
        if isinstance(path, Url):
            if not self.has(name):
                path.copy_from(source)
            self.parts[name] = Part(name, rows, sha256)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            try:
                os.link(source if isinstance(source, Path) else "", path)
            except OSError:
                sha256 = write_atomic(path, source.read_bytes())
        self.parts[name] = Part(name, rows, sha256)

    def run_digest(self) -> str:
        """sha256 over path and sha256 of the stages, events and outcomes: equal runs have equal digests."""
        lines = [
            f"{part.path} {part.sha256}\n"
            for part in sorted(self.parts.values(), key=lambda part: part.path)
            if part.path == "stages.parquet" or part.path.startswith(("events/", "outcomes/"))
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def finish(self, facts: Mapping[str, Any], timings: Mapping[str, float]) -> dict[str, Any]:
        """Write timings and, last of all, the manifest. Returns the manifest."""
        (self.path / "timings.json").write_text(json.dumps(timings, indent=1) + "\n")
        manifest = {
            "fleetsim_version": __version__,
            "schema_version": SCHEMA_VERSION,
            **facts,
            "run_digest": self.run_digest(),
            "parts": [
                {"path": part.path, "rows": part.rows, "sha256": part.sha256}
                for part in sorted(self.parts.values(), key=lambda part: part.path)
            ],
        }
        text = (json.dumps(manifest, indent=1) + "\n").encode()
        if isinstance(self.path, Url):
            (self.path / MANIFEST).put(text)
            return manifest
        sync_folders({(self.path / part.path).parent for part in self.parts.values()})
        write_atomic(self.path / MANIFEST, text)
        sync_folders([self.path])
        return manifest

    @property
    def writer_count(self) -> int:
        """Files that are best written at once."""
        return DISK_THREADS if isinstance(self.path, Path) else REQUESTS

    @cached_property
    def _there(self) -> frozenset[str]:
        """What was at the URL at first, by name: to ask for each file would take as long as to write it."""
        return frozenset(self.path.files()) if isinstance(self.path, Url) else frozenset()


def sync_folders(folders: Iterable[Path]) -> None:
    """Make renames in *folders* outlast a crash of the machine, where the file system can."""
    with ThreadPoolExecutor(DISK_THREADS) as disk:
        list(disk.map(_sync_folder, folders))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(handle)
    os.close(handle)
