"""What no simulator on this machine can beat: copying the results in memory, and writing them from ready arrays."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Ready = dict[str, pa.Table]


def copied_arrays(vms: int) -> Callable[[], None]:
    """A task that copies starts and lengths of *vms* VMs: 12 bytes read and 12 written a VM."""
    start_ms, duration_ms = np.ones(vms, np.int64), np.ones(vms, np.uint32)
    start_out, duration_out = np.empty_like(start_ms), np.empty_like(duration_ms)

    def copy() -> None:
        np.copyto(start_out, start_ms)
        np.copyto(duration_out, duration_ms)

    return copy


def ready_tables(run: Path) -> Ready:
    """The events and outcomes of *run* as Arrow tables in memory, by file."""
    paths = [path for table in ("events", "outcomes") for path in sorted((run / table).rglob("*.parquet"))]
    return {str(path.relative_to(run)): pq.ParquetFile(path).read().combine_chunks() for path in paths}


def bare_write(ready: Ready, out: Path, threads: int, *, is_durable: bool) -> None:
    """Write *ready* to the same files, in the new folder *out*, encoded alike, on as many threads; nothing else."""
    for folder in {Path(name).parent for name in ready}:
        (out / folder).mkdir(parents=True)

    def write(name: str) -> None:
        table = ready[name]
        words = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
        numbers = [field.name for field in table.schema if field.name not in words]
        with (out / name).open("wb") as file:
            pq.write_table(
                table, pa.PythonFile(file) if is_durable else str(out / name),
                compression="lz4", row_group_size=1 << 20, use_dictionary=words,
                column_encoding=dict.fromkeys(numbers, "BYTE_STREAM_SPLIT"), write_statistics=numbers,
            )  # fmt: skip
            if is_durable:
                file.flush()
                os.fsync(file.fileno())

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, ready))
