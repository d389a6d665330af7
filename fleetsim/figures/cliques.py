"""Hosts of which no two may be at work at once: the work on them, one after the other, bounds a stage's length."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fleetsim.figures.runs import Part, RunFiles, scanned
from fleetsim.figures.steps import steps_of

_TRIED = 40
"""Hosts around which a clique is looked for: a larger one elsewhere would only be a better bound."""
_NEIGHBOURS = 400
"""Of the hosts that may not be at work with one of these, as many are looked at."""

_Bools = npt.NDArray[np.bool_]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Clique:
    """Hosts each two of which carry different domains of one set, and what they take: work, and gaps in between."""

    host_rows: tuple[int, ...]
    bound_ms: int


def may_exclude(columns: Container[str]) -> bool:
    """Whether hosts of a fleet with *columns* may exclude one another, for which its events are looked at."""
    return "host_row" in columns and "set" in columns


def clique_of(files: RunFiles, stage: dict[str, Any], events: Sequence[Part]) -> Clique | None:
    """The longest clique found among the hosts that *stage* hit, by the run's *events*; None without hosts or sets.

    None as well where each host has one domain number: those of a number exclude none of theirs, so that the hosts of
    the longest set are as many as there can be.

    Two hosts that claim different domains of one set are never at work at once, and the gap lies between them
    (semantics.md 14), whatever the order. Finding the longest clique of all is hard; any one is a lower bound.
    """
    campaign = next(each for each in files.campaigns if each["name"] == stage["campaign"])
    walk_by = campaign.get("walk_by", "update_domain")
    if not may_exclude(files.fleet_schema) or walk_by not in files.fleet_schema:
        return None
    steps = steps_of(files, stage)
    if steps is None or steps["host_row"].null_count() == len(steps):
        return None
    hit = [
        scanned(part.path)
        .select("vm_row")
        .join(scanned(part.fleet_path).select("vm_row", "host_row", "set", domain=walk_by), on="vm_row")
        .drop_nulls()
        .select("host_row", "set", "domain")
        .unique()
        for part in events
        if (part.campaign, part.iteration, part.region) == (stage["campaign"], stage["iteration"], stage["region"])
    ]
    if not hit:
        return None
    work = steps.drop_nulls("host_row").select("host_row", held_ms=pl.col("duration_ms").cast(pl.Int64))
    claims = pl.concat(pl.collect_all(hit)).unique().join(work, on="host_row")
    if claims.group_by("host_row").agg(pl.col("domain").n_unique())["domain"].max() in (None, 1):
        return None
    return longest(claims, int(campaign.get("update_domain_gap_ms", 0)))


def longest(rows: pl.DataFrame, gap_ms: int) -> Clique:
    """The longest clique around one of the hosts that take longest or claim most, grown from it host by host.

    *rows* has one for each (`host_row`, `set`, `domain`), and `held_ms` of the host.
    """
    claims, best = _Claims.of(rows), Clique((), 0)
    for host in np.lexsort((-np.diff(claims.host_offsets), -claims.held_ms))[:_TRIED].tolist():
        near, excludes = claims.around(host)
        chosen, left = [0], excludes[0].copy()
        while left.any():
            # The one that leaves the most to choose from; of those the one that takes longest.
            candidates = np.flatnonzero(left)
            counts = excludes[np.ix_(candidates, candidates)].sum(axis=1)
            after = int(candidates[np.lexsort((-claims.held_ms[near[candidates]], -counts))[0]])
            chosen.append(after)
            left &= excludes[after]
        total_ms = int(claims.held_ms[near[chosen]].sum()) + gap_ms * (len(chosen) - 1)
        if total_ms > best.bound_ms:
            best = Clique(tuple(sorted(claims.host_row[near[chosen]].tolist())), total_ms)
    return best


@dataclass(frozen=True, slots=True)
class _Claims:
    """Who claims what: a row a (host, set, domain), N of them; hosts and sets are numbered from 0."""

    host_row: _Ints  # [H]
    held_ms: _Ints  # [H]
    host: _Ints  # [N] rising
    host_offsets: _Ints  # [H+1]
    set: _Ints  # [N]
    domain: _Ints  # [N]
    by_set: _Ints  # [N] rows by set
    set_offsets: _Ints  # [S+1]

    @classmethod
    def of(cls, claims: pl.DataFrame) -> "_Claims":
        rows = claims.with_columns(pl.col("set").rank("dense") - 1).sort("host_row", "set", "domain")
        host_row, first, host = np.unique(rows["host_row"].to_numpy(), return_index=True, return_inverse=True)
        sets = rows["set"].to_numpy().astype(np.int64)
        return cls(
            host_row=host_row.astype(np.int64),
            held_ms=rows["held_ms"].to_numpy()[first],
            host=host.astype(np.int64),
            host_offsets=np.append(first, len(host)),
            set=sets,
            domain=rows["domain"].to_numpy().astype(np.int64),
            by_set=np.argsort(sets, kind="stable"),
            set_offsets=np.concatenate([[0], np.cumsum(np.bincount(sets))]),
        )

    def around(self, host: int) -> tuple[_Ints, _Bools]:
        """*host* and hosts that may not be at work with it, and which of them exclude which."""
        own_sets = self.set[self.host_offsets[host] : self.host_offsets[host + 1]]
        found = [self.by_set[self.set_offsets[each] : self.set_offsets[each + 1]] for each in np.unique(own_sets)]
        hosts = np.unique(self.host[np.concatenate(found)])
        hosts = hosts[np.argsort(-self.held_ms[hosts], kind="stable")]
        near = np.concatenate([[host], hosts[hosts != host][:_NEIGHBOURS]])
        counts = np.diff(self.host_offsets)[near]
        place = np.repeat(np.arange(len(near)), counts)
        rows = np.arange(len(place)) + np.repeat(self.host_offsets[near] - np.cumsum(counts) + counts, counts)
        by_set = np.argsort(self.set[rows], kind="stable")
        place, of_set, domain = place[by_set], self.set[rows][by_set], self.domain[rows][by_set]
        excludes = np.zeros((len(near), len(near)), np.bool_)
        # Each claim beside the next one of its set, then the one after that, and so on.
        first, apart = np.arange(len(place)), 1
        while len(first := first[first < len(place) - apart]):
            first = first[of_set[first] == of_set[first + apart]]
            is_other = domain[first] != domain[first + apart]
            excludes[place[first[is_other]], place[first[is_other] + apart]] = True
            apart += 1
        excludes |= excludes.T
        np.fill_diagonal(excludes, val=False)
        is_near = excludes[0].copy()
        is_near[0] = True
        return near[is_near], excludes[np.ix_(is_near, is_near)]
