"""Where the time of a run goes: its threads, looked at every millisecond or so.

Kernels, Parquet and digests release the interpreter's lock, so a look from another thread sees them at work; threads
that wait for something to do are not counted. Shares are of the time of all threads together.
"""

import cProfile
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

LAYERS = {
    ("blocks.py", "load"): "reads the fleet",
    ("engine.py", "advance"): "simulates: kernels",
    ("records.py", "events"): "makes rows",
    ("records.py", "outcomes"): "makes rows",
    ("tables.py", "parquet_bytes"): "encodes Parquet",
    ("tables.py", "write_atomic"): "writes files: digest, disk, fsync",
}
"""What the time within a function of fleetsim is called; of nested ones the outer one counts."""
REST = "all else: scenario, stages, manifest"
_WAITS = {("runner.py", "run_stages"), ("thread.py", "_worker"), ("threading.py", "wait"), ("threading.py", "acquire")}
_WAITS_S = 0.001


def shares(call: Callable[[], object]) -> dict[str, float]:
    """What part of the time of *call* went where, by words of LAYERS and REST; largest first, 1 in all."""
    with _looked_at() as seen:
        call()
    total = seen.total()
    return {layer: count / total for layer, count in seen.most_common()}


@contextmanager
def _looked_at() -> Iterator[Counter[str]]:
    """Count, while the block runs, what each thread but the looking one is seen at."""
    seen: Counter[str] = Counter()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(_WAITS_S):
            for thread, frame in sys._current_frames().items():
                if thread != looker.ident and (layer := _layer(frame)) is not None:
                    seen[layer] += 1

    looker = threading.Thread(target=look, daemon=True)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(_WAITS_S / 10)  # a thread in Python is seen as often as one in a kernel
    looker.start()
    try:
        yield seen
    finally:
        is_over.set()
        looker.join()
        sys.setswitchinterval(interval_s)


def _layer(frame: FrameType) -> str | None:
    """What a thread is at; None: it waits."""
    if _place(frame) in _WAITS:
        return None
    layer, at = REST, frame
    while True:
        layer = LAYERS.get(_place(at), layer)
        if at.f_back is None:
            return layer
        at = at.f_back


def _place(frame: FrameType) -> tuple[str, str]:
    return Path(frame.f_code.co_filename).name, frame.f_code.co_name


def told(call: Callable[[], object], warm: Callable[[], object]) -> dict[str, object]:
    """Shares and seconds of *call*, after *warm*."""
    warm()
    started_s = time.perf_counter()
    found = shares(call)
    return {"seconds": time.perf_counter() - started_s, "shares": found}


PARTS = {
    "run_gate": "units start, wait and end: the gate itself",
    **dict.fromkeys(("count_needs", "fill_needs", "find_cells"), "what units claim, and who can affect whom"),
    **dict.fromkeys(
        ("rank_units", "put_by_rank", "number_sets", "put_by_unit"), "units put in the order of tries, and back"
    ),
    **dict.fromkeys(("count_entries", "fill_entries"), "places to wait at"),
    **dict.fromkeys(
        ("sort_by_host", "find_components", "find_domains", "place_domains", "find_shared", "longest_set_ms"),
        "which VMs share hosts, and what that means for sets",
    ),
    **dict.fromkeys(("sweep_sets", "weigh_sets", "weigh_caps"), "how far sets are out, what caps carried"),
}
"""What the time within kernels of a gate is called."""
PARTS_REST = "arrays between kernels: gathers, sorts, sums"


def profiled(call: Callable[[], object], warm: Callable[[], object]) -> dict[str, float]:
    """What part of the time of *call*, after *warm*, went where, by words of PARTS and PARTS_REST; largest first."""
    warm()
    profile = cProfile.Profile()
    profile.runcall(call)
    seen: Counter[str] = Counter()
    for entry in profile.getstats():
        name = getattr(entry.code, "co_name", "")
        seen[PARTS.get(name, PARTS_REST)] += entry.inlinetime
    total = seen.total()
    return {part: seconds / total for part, seconds in seen.most_common()}
