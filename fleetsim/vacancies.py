"""Where VMs that customers move can go: what room there was on hosts, request by request, and where they went.

For strangers, as `evidence` is: worked out from a region's inventory and the rows of `events` alone, by looking at all
hosts of a cluster for each request (semantics.md 31).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fleetsim.schema import NEVER_MS, RESOURCES

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_MILLION = 1_000_000
_NO_LIMIT = 1 << 60
_OPENS, _LEAVES, _ASKS = range(3)  # in this order at one instant (semantics.md 2)
JUDGED: dict[str, type[pl.DataType]] = {
    "rule": pl.String,
    "campaign": pl.UInt16,
    "vm_row": pl.UInt32,
    "iteration": pl.UInt8,
    "start_ms": pl.Int64,
    "host_to": pl.UInt32,
    "problem": pl.String,
}


@dataclass(frozen=True, slots=True)
class Tenants:
    """The VMs of a region, V of them, on its hosts, H of them by id."""

    vm_row: Ints  # [V]
    rank: Ints  # [V] by id
    host: Ints  # [V] where the fleet puts each: number of the host
    takes: Ints  # [V, 2] vCPUs and memory, in millionths
    deleted_ms: Ints  # [V] NEVER_MS where never


@dataclass(frozen=True, slots=True)
class Vacancies:
    """What the H hosts of a region offer."""

    first_row: int  # host_row of the first
    cluster: Ints  # [H] the same number for hosts that stand in for one another
    room: Ints  # [H, 2] in millionths
    is_spare: Bools  # [H]

    @staticmethod
    def of(hosts: pl.DataFrame) -> "Vacancies":
        """The hosts in a table of them, in the order of `host_row`."""
        count = len(hosts)
        cluster = np.zeros(count, np.int64)
        if hosts["cluster"].dtype != pl.Null:
            cluster = hosts["cluster"].cast(pl.String).fill_null("").rank("dense").to_numpy().astype(np.int64)
            cluster[hosts["cluster"].is_null().to_numpy()] = 0
        room = [amounts(hosts[name], _NO_LIMIT) for name in RESOURCES]
        return Vacancies(int(hosts["host_row"][0]), cluster, np.stack(room, axis=1), hosts["is_spare"].to_numpy())


def amounts(column: pl.Series, absent: int = 0) -> Ints:
    """A column of vCPUs or GiB in millionths, so that sums are exact."""
    given = np.rint(column.cast(pl.Float64).fill_null(0.0).to_numpy() * _MILLION).astype(np.int64)
    return np.where(column.is_null().to_numpy(), absent, given)


def judge(
    vacancies: Vacancies,
    tenants: Tenants,
    place_in_file: int,
    requests: pl.DataFrame,
    recycle_ms: int,
    *,
    are_kept: bool,
) -> pl.DataFrame:
    """What is wrong with *requests* of all iterations of a campaign, a row of JUDGED for each problem.

    place_in_file  of the campaign
    requests  place (of the VM among *tenants*), iteration, start_ms, end_ms, result, effects, host_from, host_to
    are_kept  whether hosts that are emptied are updated, and not given up
    """
    place, start_ms, end_ms = (requests[name].to_numpy().astype(np.int64) for name in ("place", "start_ms", "end_ms"))
    result = requests["result"]
    is_move = (result == "completed").to_numpy()
    is_whole = is_move & ~((end_ms == tenants.deleted_ms[place]) & (requests["effects"].to_numpy() == 0))
    absent = NEVER_MS
    host_from, host_to = (
        requests[name].cast(pl.Int64).fill_null(absent).to_numpy() - vacancies.first_row
        for name in ("host_from", "host_to")
    )
    own = tenants.host[place]
    count = len(vacancies.is_spare)
    is_known = (host_to >= 0) & (host_to < count)
    target = np.where(is_known, host_to, own)

    left_ms = tenants.deleted_ms.copy()
    np.minimum.at(left_ms, place[is_whole], end_ms[is_whole])
    emptied_ms = np.full(count, -NEVER_MS)
    np.maximum.at(emptied_ms, tenants.host, left_ms)
    is_moved_from = np.zeros(count, np.bool_)
    is_moved_from[own[is_whole]] = True
    opens_ms = np.full(count, NEVER_MS)
    if are_kept:
        opens_ms = np.where(is_moved_from & (emptied_ms < NEVER_MS), emptied_ms + recycle_ms, opens_ms)
    opens_ms[vacancies.is_spare] = -NEVER_MS

    problems = {
        "comes from another host than its VM is on": host_from != own,
        "goes to no host of the region": ~is_known,
        "is no move, but to another host": ~is_move & (host_to != own),
        "stays on its host": is_move & (host_to == own),
        "goes to another cluster": is_move & (vacancies.cluster[target] != vacancies.cluster[own]),
        "goes to a host that was not updated yet": is_move & (opens_ms[target] > start_ms),
    }
    found = [(row, "R15", problem) for problem, mask in problems.items() for row in np.flatnonzero(mask).tolist()]
    is_odd = np.logical_or.reduce([*problems.values(), np.zeros(len(place), np.bool_)])
    for cluster in np.unique(vacancies.cluster):
        hosts = np.flatnonzero((vacancies.cluster == cluster) & (opens_ms < NEVER_MS))
        asks = np.flatnonzero(vacancies.cluster[own] == cluster)
        moves = asks[is_move[asks] & ~is_odd[asks] & (tenants.deleted_ms[place[asks]] < NEVER_MS)]
        what = [(int(opens_ms[host]), _OPENS, 0, number) for number, host in enumerate(hosts.tolist())]
        what += [(int(tenants.deleted_ms[place[row]]), _LEAVES, 0, row) for row in moves.tolist()]
        what += [(int(start_ms[row]), _ASKS, int(tenants.rank[place[row]]), row) for row in asks.tolist()]
        number_of = np.full(count, -1)
        number_of[hosts] = np.arange(len(hosts))
        found += _followed(
            sorted(what), vacancies.room[hosts], tenants.takes[place], number_of[target], is_odd, is_move, result
        )
    found.sort()
    rows = np.array([row for row, _, _ in found], np.int64)
    told = requests[rows].select("iteration", "start_ms", "host_to")
    return told.with_columns(
        campaign=pl.lit(place_in_file),
        rule=pl.Series([rule for _, rule, _ in found], dtype=pl.String),
        vm_row=pl.Series(tenants.vm_row[place[rows]], dtype=pl.UInt32),
        problem=pl.Series([problem for _, _, problem in found], dtype=pl.String),
    ).select(pl.col(name).cast(dtype) for name, dtype in JUDGED.items())  # fmt: skip


def _followed(
    what: list[tuple[int, int, int, int]],
    room: Ints,
    takes: Ints,
    target: Ints,
    is_odd: Bools,
    is_move: Bools,
    result: pl.Series,
) -> list[tuple[int, str, str]]:
    """Follow *what* happens on the hosts of a cluster, by instant: which requests are not met as they should be.

    room    int64[N, 2] of the hosts that can ever be gone to, by id; takes int64[R, 2] and target int64[R] of requests
    """
    found = []
    free = np.full_like(room, -1)  # closed: no VM takes less than nothing
    vcpus, memory = free[:, 0], free[:, 1]
    is_refused = (result == "retry_later").to_numpy()
    for _, kind, _, row in what:
        if kind == _OPENS:
            free[row] += room[row] + 1
            continue
        if kind == _LEAVES:
            free[target[row]] += takes[row]
            continue
        fits = (vcpus >= takes[row, 0]) & (memory >= takes[row, 1])
        first = int(fits.argmax()) if len(fits) and fits.any() else -1
        if is_refused[row]:
            if first >= 0:
                found.append((row, "R25", "is refused, though a host had room"))
            continue
        if first < 0 and not is_odd[row]:
            found.append((row, "R24" if is_move[row] else "R25", "finds room, though no host had any"))
        elif is_move[row] and not is_odd[row] and target[row] != first:
            is_full = not fits[target[row]]
            told = ("R24", "goes to a host that had no room") if is_full else ("R25", "passes a host that had room")
            found.append((row, *told))
        if is_move[row] and not is_odd[row]:
            free[target[row]] -= takes[row]
    return found
