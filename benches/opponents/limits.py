"""What no simulator on this machine can beat: moving its results in memory, and writing them from ready arrays."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benches.campaign import Given
from benches.opponents.ours import run_into_new_folder


def copy(given: Given) -> Callable[[], None]:
    """Starts and lengths, copied into arrays that are mapped: 12 bytes read and 12 written a VM."""
    start_ms, duration_ms = np.ones(given.vms, np.int64), np.ones(given.vms, np.uint32)
    start_out, duration_out = np.ones_like(start_ms), np.ones_like(duration_ms)

    def task() -> None:
        np.copyto(start_out, start_ms)
        np.copyto(duration_out, duration_ms)

    return task


def triad(given: Given) -> Callable[[], None]:
    """a = b + 3 c over doubles, as NumPy does it in two passes: 24 bytes read and 16 written a VM."""
    one, other, out = np.ones(given.vms), np.ones(given.vms), np.ones(given.vms)

    def task() -> None:
        np.multiply(other, 3.0, out=out)
        np.add(out, one, out=out)

    return task


def write(given: Given) -> Callable[[], Path]:
    """The tables of a fleetsim run, ready in memory, into as many files, encoded alike, on as many threads."""
    return _write(given, is_durable=False)


def write_fsync(given: Given) -> Callable[[], Path]:
    """The same, each file followed by fsync."""
    return _write(given, is_durable=True)


def _write(given: Given, *, is_durable: bool) -> Callable[[], Path]:
    done = run_into_new_folder(given)
    paths = [path for table in ("events", "outcomes") for path in sorted((done / table).rglob("*.parquet"))]
    ready = {path.relative_to(done): pq.ParquetFile(path).read().combine_chunks() for path in paths}
    shutil.rmtree(done)

    def task() -> Path:
        out = given.new_folder()
        for folder in {name.parent for name in ready}:
            (out / folder).mkdir(parents=True)
        with ThreadPoolExecutor(given.threads) as pool:
            list(pool.map(partial(_write_one, out, is_durable=is_durable), *zip(*ready.items(), strict=True)))
        return out

    return task


def _write_one(out: Path, name: Path, table: pa.Table, *, is_durable: bool) -> None:
    words = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    numbers = [field.name for field in table.schema if field.name not in words]
    with (out / name).open("wb") as file:
        # Without fsync Arrow writes by itself, which is faster than through a file of Python's.
        pq.write_table(
            table, pa.PythonFile(file) if is_durable else str(out / name),
            compression="lz4", row_group_size=1 << 20, use_dictionary=words,
            column_encoding=dict.fromkeys(numbers, "BYTE_STREAM_SPLIT"), write_statistics=numbers,
        )  # fmt: skip
        if is_durable:
            file.flush()
            os.fsync(file.fileno())
