"""The run folder: which files a run has, written part by part, with the manifest last.

A folder without a manifest is an unfinished run: its parts are whole, since every file is renamed into place, and
`--resume` keeps them. What a run was started with stands in `resolved.toml`, so that it can only go on as itself.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetsim import __version__
from fleetsim.errors import InputError
from fleetsim.schema import SCHEMA_VERSION
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


def check_absent(out: Path, *, resume: bool = False) -> None:
    """Raise `InputError` where *out* holds something a run would overwrite, or cannot be made."""
    folder_above(out)
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

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts: dict[str, Part] = {}

    def open(self) -> None:
        """Make the folder, or clear the one of an interrupted run of what was being written when it stopped."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.clear()

    def clear(self) -> None:
        """Remove what was being written by whom was stopped, and what is of use to a run that is not over alone."""
        shutil.rmtree(self.path / SCRATCH, ignore_errors=True)
        for stray in self.path.rglob(HALF_WRITTEN):
            stray.unlink(missing_ok=True)

    def write(self, name: str, content: Any, rows: int | None = None) -> None:
        """Write *content* (bytes-like) as file *name*, atomically, unless it is there already to the byte."""
        path = self.path / name
        is_there = path.exists() and path.read_bytes() == bytes(content)
        sha256 = file_sha256(path) if is_there else write_atomic(path, content)
        self.parts[name] = Part(name, rows, sha256)

    def write_all(self, files: Mapping[str, tuple[Any, int | None]]) -> None:
        """Write several files, each as name: (content, rows), side by side."""
        with ThreadPoolExecutor(DISK_THREADS) as disk:
            list(disk.map(lambda name: self.write(name, *files[name]), files))

    def keep(self, name: str, rows: int) -> bool:
        """Whether part *name* is there, whole, from the run this one resumes; if so it is taken over."""
        path = self.path / name
        if not path.exists() or row_count(path) != rows:
            return False
        self.parts[name] = Part(name, rows, file_sha256(path))
        return True

    def link(self, name: str, source: Path, rows: int, sha256: str) -> None:
        """Take over *source* as file *name*: hard-linked where the file system allows it, else copied."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            try:
                os.link(source, path)
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
        sync_folders({(self.path / part.path).parent for part in self.parts.values()})
        write_atomic(self.path / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        sync_folders([self.path])
        return manifest


def sync_folders(folders: Iterable[Path]) -> None:
    """Make renames in *folders* outlast a crash of the machine, where the file system can."""
    with ThreadPoolExecutor(DISK_THREADS) as disk:
        list(disk.map(_sync_folder, folders))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(handle)
    os.close(handle)
