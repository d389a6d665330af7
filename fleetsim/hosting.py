"""Hosts as units of maintenance: when each was updated, and what it claimed of the sets that it carries.

For strangers, as `evidence` is: made of what that shows of a region where VMs are on hosts. All of such a region is
looked at together.
"""

import numpy as np
import polars as pl

from fleetsim.evidence import NO_DOMAIN, Cell, Figures, Walks
from fleetsim.testimony import Bools, Ints, lazily

SEVERAL = 254
"""Stands for the domains of a host that hits several of a set: no domain has this number (R31)."""


class Hosts(Walks):
    """The hosts that a stage can hit, each a walk of one unit, and what they claim while they are at work."""

    cell: Cell

    @staticmethod
    def met(cell: Cell) -> "Hosts":
        """The hosts of *cell*, whose region has some."""
        assert cell.part.host is not None
        places = np.flatnonzero(cell.reachable & ~cell.is_moving)
        hosts = Hosts.of(cell, places, cell.part.host[places])
        hosts.cell = cell
        return hosts

    @classmethod
    def _domains_of(cls, cell: Cell, places: Ints) -> Ints:
        """A host is visited as a whole."""
        return np.full(len(places), NO_DOMAIN)

    @property
    def may_wait(self) -> bool:
        """A host waits for others that claim its sets."""
        return True

    @property
    def _starts_anywhere(self) -> Bools:
        """None of them: `spread` draws when a host may start."""
        return np.zeros(len(self.walk["name"]), np.bool_)

    @lazily
    def returns(self) -> pl.DataFrame:
        """Visits of hosts that had been visited: walk_row, start_ms, first_start_ms."""
        again = np.flatnonzero(np.diff(self.visit_walk, prepend=-1) == 0)
        row = self.visit_walk[again]
        first = np.searchsorted(self.visit_walk, row)
        start_ms = self.visit["start_ms"]
        return pl.DataFrame({"walk_row": row, "start_ms": start_ms[again], "first_start_ms": start_ms[first]})

    @lazily
    def unclaimed(self) -> pl.DataFrame:
        """`spans` of the hosts that carry no set, and so wait for nobody."""
        part, places = self.cell.part, np.flatnonzero(self.cell.reachable & (self.cell.part.set_row >= 0))
        assert part.host is not None
        carries_set = np.zeros(len(part.vms), np.bool_)
        carries_set[part.host[places]] = True
        row = self.spans["walk_row"].to_numpy()
        return self.spans.filter(pl.Series(~carries_set[part.host[self.walk["name"][row]]], dtype=pl.Boolean))

    @property
    def last_free_start_ms(self) -> int:
        """The last instant at which a host that waits for no other may start."""
        assert self.stage is not None
        assert self.stage.start_ms is not None
        may_wait = self.campaign.caps or self.zones_take_turns
        return self.last_start_ms if may_wait else self.stage.start_ms + max(self.campaign.spread_ms, 1) - 1

    # What they claim

    @lazily
    def _claims(self) -> tuple[Ints, Ints, Ints]:
        """The set, visit and domain of each claim, SEVERAL for all of the set; in order of set, start and domain."""
        cell, part = self.cell, self.cell.part
        assert part.host is not None
        walk_of = np.full(len(part.vms), -1)
        walk_of[part.host[self.walk["name"]]] = np.arange(len(self.walk["name"]))
        events = np.flatnonzero((part.set_row[cell.place] >= 0) & cell.reachable[cell.place])
        places = cell.place[events]
        # Starts by number, so that one key says whose visit it is, and another in what order claims are.
        starts_ms, start = np.unique(self.visit["start_ms"], return_inverse=True)
        own = np.searchsorted(starts_ms, cell.start_ms[events])
        count, visit_count = len(starts_ms), len(start)
        visit = np.searchsorted(self.visit_walk * count + start, walk_of[part.host[places]] * count + own)
        key = (part.set_row[places] * visit_count + visit) * 256 + cell.domains[places]
        key.sort()
        first = np.flatnonzero(np.diff(key // 256, prepend=-1))
        last = np.append(first[1:], len(key))[: len(first)] - 1
        claim, domain = key[first] // 256, np.where(key[first] == key[last], key[first] % 256, SEVERAL)
        set_row, visit = claim // max(1, visit_count), claim % max(1, visit_count)
        order = np.argsort((set_row * count + start[visit]) * 256 + domain, kind="stable")
        return set_row[order], visit[order], domain[order]

    @lazily
    def set_visits(self) -> pl.DataFrame:
        """Turns of domains in their sets, in order: set_row, domain (or SEVERAL), start_ms, end_ms, walk_row (a host).

        Hosts that claim the same domain, one after the other or at once, with none of another in between, are one turn:
        whichever of them another domain comes too close to, it comes too close to the turn.
        """
        set_row, visit, domain = self._claims
        is_new = (np.diff(set_row, prepend=-1) != 0) | (np.diff(domain, prepend=-1) != 0) | (domain == SEVERAL)
        turns = np.flatnonzero(is_new)
        end_ms = np.maximum.reduceat(self.visit["end_ms"][visit], turns) if len(turns) else turns
        return pl.DataFrame(
            {
                "set_row": set_row[turns],
                "domain": domain[turns],
                "start_ms": self.visit["start_ms"][visit[turns]],
                "end_ms": end_ms,
                "walk_row": self.visit_walk[visit[turns]],
            }
        )

    def _longest_set_ms(self, end: str) -> int:
        """The least that any set takes in any order: each domain its longest host, hosts with several their own, gaps.

        *end* names the ends that hosts are held to.
        """
        set_row, visit, domain = self._claims
        if not len(set_row):
            return 0
        held_ms = (self.visit[end] - self.visit["start_ms"])[visit]
        what = np.where(domain == SEVERAL, 256 + visit, domain)
        order = np.lexsort((what, set_row))
        set_row, what, held_ms = set_row[order], what[order], held_ms[order]
        is_new_set = np.diff(set_row, prepend=-1) != 0
        shares = np.flatnonzero(is_new_set | (np.diff(what, prepend=-1) != 0))
        longest_ms = np.maximum.reduceat(held_ms, shares)
        sets = np.flatnonzero(is_new_set[shares])
        share_counts = np.diff(np.append(sets, len(shares)))
        return int((np.add.reduceat(longest_ms, sets) + (share_counts - 1) * self.campaign.gap_ms).max())

    def figures(self) -> Figures:
        figures = super().figures()
        if ("longest_ms", None) in figures:
            low, high = figures["longest_ms", None]
            sets_ms = self._longest_set_ms("end_ms"), self._longest_set_ms("end_ms_max")
            figures["longest_ms", None] = max(low, sets_ms[0]), max(high, sets_ms[1])
        return figures

    def _with_ids(self, offenders: pl.DataFrame) -> pl.DataFrame:
        part = self.cell.part
        if "walk_row" in offenders.columns:
            host = part.column("host")
            assert host is not None
            offenders = offenders.with_columns(host=host.gather(self.walk["name"][offenders["walk_row"].to_numpy()]))
        if "set_row" in offenders.columns:
            first = part.first_places[offenders["set_row"].to_numpy()]
            offenders = offenders.with_columns(set=part.vms["set"].gather(first))
        several = [name for name in ("domain", "domain_before") if name in offenders.columns]
        return offenders.with_columns(pl.when(pl.col(name) != SEVERAL).then(name).alias(name) for name in several)
