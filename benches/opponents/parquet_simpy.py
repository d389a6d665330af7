"""SimPy as a whole process, a process a set, its tables written by pyarrow as it comes."""

import pyarrow as pa
import pyarrow.parquet as pq

from benches.campaign import START_MS_EPOCH, TABLES, UINT8, Given
from benches.opponents.event_loops import simpy_walk


def run(given: Given) -> None:
    """Simulates, then writes; vm_row is the VM."""
    starts, lengths = simpy_walk(given)
    duration_ms = pa.array(lengths, pa.uint32())
    computed = {
        "vm_row": pa.array(range(given.vms), pa.uint32()),
        "start_at": pa.array([START_MS_EPOCH + start_ms for start_ms in starts], pa.timestamp("ms", "UTC")),
        "duration_ms": duration_ms,
        "paused_ms": duration_ms,
    }
    out = given.folder / "out"
    out.mkdir()
    for table, columns in TABLES.items():
        arrays = {
            name: computed[name] if same is None else pa.repeat(_same(name, same), given.vms)
            for name, same in columns.items()
        }
        pq.write_table(pa.table(arrays), out / f"{table}.parquet")


def _same(name: str, value: str | int) -> pa.Scalar:
    if isinstance(value, str):
        return pa.scalar(value)
    return pa.scalar(value, pa.uint8() if name in UINT8 else pa.uint32())
