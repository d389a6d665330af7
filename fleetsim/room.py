"""Whether a machine has the disk and the memory that a run takes: said before anything is computed."""

import shutil
from pathlib import Path

from fleetsim.errors import InputError

GIB = 2**30


def check_disk(out: Path, needed: int, hint: str) -> None:
    """Raise `InputError` where fewer than *needed* bytes are free for *out*; *hint* says what takes less."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise InputError(f"{out}: must have about {_told(needed)} of disk for what is kept, got {_told(free)}; {hint}")


def check_memory(needed: int, what: str) -> None:
    """Raise `InputError` where fewer than *needed* bytes of memory are to be had for *what*; unasked where unknown."""
    available = _available()
    if available is not None and available < needed:
        raise InputError(f"memory: must be about {_told(needed)} for {what}, got {_told(available)}")


def _available() -> int | None:
    """Bytes of memory that can be had without swapping, as Linux tells them."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _told(count: int) -> str:
    return f"{count / GIB:,.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:,.1f} MiB"
