"""Whether what an opponent worked out is the campaign.

With constant lengths: its length and checksum, as `benches.campaign` derives them. With random ones: that domains go
one at a time, in order, the gap apart, that the second region of a pair starts when the first is through, and that
lengths are distributed as asked. A finished run of another campaign is put before `fleetsim.verify`.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benches.campaign import (
    DOMAIN_COUNT,
    DOMAIN_SIZE,
    FREEZE_MS,
    GAP_MS,
    LENGTH_S,
    MU,
    REGION_COUNT,
    SIGMA,
    START_MS_EPOCH,
    TABLES,
    UINT8,
    checksum,
)

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Verdict:
    """What came out, and what is wrong with it; *events* where they are not one a VM."""

    length_s: float = math.nan
    checksum: int = 0
    events: int | None = None
    problems: tuple[str, ...] = ()


def vms_of_rows(prepared: Path) -> Int64s:
    """int64[N]: the VM in each vm_row of a prepared fleet."""
    paths = sorted((prepared / "fleet").rglob("*.parquet"))
    parts = [pq.ParquetFile(path).read(columns=["vm", "vm_row"]) for path in paths]
    vm = np.empty(sum(map(len, parts)), np.int64)
    for part in parts:
        vm[part["vm_row"].to_numpy()] = part["vm"].to_numpy()
    return vm


def check_impacts(
    vms: int, start_ms: Any, duration_ms: Any, *, is_random: bool, vm_of_row: Int64s | None = None
) -> Verdict:
    """Judge starts and lengths, one each a VM; *vm_of_row* says whose they are, if not in VM order."""
    start_ms, duration_ms = np.asarray(start_ms, np.int64), np.asarray(duration_ms, np.int64)
    if start_ms.shape != (vms,) or duration_ms.shape != (vms,):
        return Verdict(problems=(f"{len(start_ms):,} starts and {len(duration_ms):,} lengths of {vms:,} VMs",))
    if vm_of_row is not None:
        vm_order = np.empty(vms, np.int64)
        vm_order[vm_of_row] = np.arange(vms)
        start_ms, duration_ms = start_ms[vm_order], duration_ms[vm_order]
    length_s = int((start_ms + duration_ms).max()) / 1000
    weighted = np.arange(1, vms + 1, dtype=np.uint64) * (start_ms // 1000).astype(np.uint64)
    found = int(weighted.sum(dtype=np.uint64))  # both wrap around at 2^64
    problems = _random_problems(start_ms, duration_ms) if is_random else _constant_problems(vms, length_s, found)
    if not is_random and (wrong := int((duration_ms != FREEZE_MS).sum())):
        problems.append(f"{wrong:,} freezes are not {FREEZE_MS:,} ms")
    return Verdict(length_s, found, problems=tuple(problems))


def _constant_problems(vms: int, length_s: float, found: int) -> list[str]:
    problems = []
    if length_s != LENGTH_S:
        problems.append(f"length {length_s:,} s, not {LENGTH_S:,} s")
    if found != checksum(vms):
        problems.append(f"checksum {found:,}, not {checksum(vms):,}")
    return problems


def _random_problems(start_ms: Int64s, duration_ms: Int64s) -> list[str]:
    shape = (REGION_COUNT, -1, DOMAIN_SIZE, DOMAIN_COUNT)
    start_ms, duration_ms = start_ms.reshape(shape), duration_ms.reshape(shape)
    unit_ms = start_ms[:, :, 0, :]
    end_ms = (start_ms + duration_ms).max(axis=2)  # of each domain
    region_end_ms = end_ms.max(axis=(1, 2))
    rules = {
        "VMs of a domain start apart": (start_ms == unit_ms[:, :, None, :]).all(),
        "a domain does not start the gap after the former": (unit_ms[:, :, 1:] == end_ms[:, :, :-1] + GAP_MS).all(),
        "a first region does not start at 0": (unit_ms[::2, :, 0] == 0).all(),
        "a second region does not start when the first is through": (
            unit_ms[1::2, :, 0] == region_end_ms[::2, None]
        ).all(),
    }
    problems = [rule for rule, holds in rules.items() if not holds]
    # Kolmogorov-Smirnov on a grid: beyond 2.5 / sqrt(n) by chance once in 100,000; lengths are whole ms, and a table of
    # 65,536 steps may stand for the distribution.
    ordered = np.sort(duration_ms, axis=None)
    ranks = np.arange(1, 100) / 100
    bounds_ms = np.exp(MU + SIGMA * np.array([NormalDist().inv_cdf(rank) for rank in ranks]))
    distance = np.abs(np.searchsorted(ordered, bounds_ms, side="right") / len(ordered) - ranks).max()
    if distance > 2.5 / math.sqrt(len(ordered)) + 0.001:
        problems.append(f"lengths are {distance:.4f} from the lognormal asked for")
    return problems


def check_files(vms: int, out: Path, *, is_random: bool, vm_of_row: Int64s | None = None) -> Verdict:
    """Judge the tables `events` and `outcomes` in *out*; *vm_of_row* as for `check_impacts`."""
    tables = {name: _read(out, name) for name in TABLES}
    problems = [problem for name, table in tables.items() for problem in _table_problems(vms, name, table)]
    if problems:
        return Verdict(problems=tuple(problems))
    events, outcomes = ({name: table[name] for name in table.column_names} for table in tables.values())
    row = events["vm_row"].to_numpy()
    start_ms, duration_ms = np.empty(vms, np.int64), np.empty(vms, np.int64)
    start_ms[row] = events["start_at"].cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).to_numpy() - START_MS_EPOCH
    duration_ms[row] = events["duration_ms"].to_numpy()
    if (outcomes["paused_ms"].to_numpy() != duration_ms[outcomes["vm_row"].to_numpy()]).any():
        return Verdict(problems=("paused_ms is not the length of the freeze",))
    return check_impacts(vms, start_ms, duration_ms, is_random=is_random, vm_of_row=vm_of_row)


def _read(out: Path, name: str) -> pa.Table:
    paths = sorted(path for path in out.rglob("*.parquet") if path.relative_to(out).parts[0].startswith(name))
    return pa.concat_tables([pq.ParquetFile(path).read() for path in paths], promote_options="permissive")


def _table_problems(vms: int, name: str, table: pa.Table) -> list[str]:
    expected = TABLES[name]
    if table.column_names != list(expected):
        return [f"{name} has the columns {table.column_names}"]
    if len(table) != vms:
        return [f"{name} has {len(table):,} rows of {vms:,}"]
    problems = []
    for column, same in expected.items():
        data_type = table[column].type
        wanted = "an instant in UTC" if column == "start_at" else "words" if isinstance(same, str) else "a number"
        if not _is_of_type(column, same, data_type):
            problems.append(f"{name}.{column} is {data_type}, not {wanted}")
        elif same is not None and (values := pc.unique(table[column]).to_pylist()) != [same]:
            problems.append(f"{name}.{column} is {values[:3]}, not {same}")
    if not problems and (np.bincount(table["vm_row"].to_numpy(), minlength=vms) != 1).any():
        problems.append(f"{name} has not each vm_row once")
    return problems


def _is_of_type(column: str, same: str | int | None, data_type: pa.DataType) -> bool:
    if column == "start_at":
        return bool(pa.types.is_timestamp(data_type) and data_type.tz == "UTC")
    if isinstance(same, str):
        value_type = data_type.value_type if pa.types.is_dictionary(data_type) else data_type
        return bool(pa.types.is_string(value_type) or pa.types.is_large_string(value_type))
    return bool(data_type == (pa.uint8() if column in UINT8 else pa.uint32()))


def check_run(run: Path) -> Verdict:
    """Judge a finished run, whatever its campaigns, by the verifier; its length is that of its stages."""
    import fleetsim

    verdict = fleetsim.verify(run)
    # Of a run for figures alone only the summary tells: VMs hit.
    summary = pq.ParquetFile(run / "summary.parquet").read(columns=["figure", "value"])
    hits = summary.filter(pc.equal(summary["figure"].cast(pa.string()), "vm_hit_count"))["value"]
    events = json.loads((run / "manifest.json").read_text())["counts"]["events"] or int(pc.sum(hits).as_py())
    ends = pq.ParquetFile(run / "stages.parquet").read(columns=["last_end_at"])["last_end_at"]
    length_s = (pc.max(ends.cast(pa.int64())).as_py() - START_MS_EPOCH) / 1000
    broken = [f"{each.rule} is broken {each.offender_count:,} times" for each in verdict.rules if each.offender_count]
    return Verdict(length_s, events=events, problems=tuple(broken))
