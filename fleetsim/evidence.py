"""What a run shows: its fleet, part by part, and what its campaigns did to the VMs of each.

For strangers: made of the files alone. A part is looked at one campaign at a time, as arrays by the place of a VM in
its part; what outlives that is one small aggregate a stage and a part, and, of fleets up to _PRINTS_AT_ONCE, 8 bytes
a VM. Frames and arrays are made on first use.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from fleetsim.schema import (
    COME_BACK,
    EVENTS,
    FAULT_DOMAIN_COUNT_DEFAULT,
    FIRST_ITERATION,
    NEVER_MS,
    OUTCOMES,
    TAKES,
    TRIES_MAX,
    UPDATE_DOMAIN_COUNT_DEFAULT,
    UPDATE_DOMAIN_COUNT_MAX,
    Effect,
    Kind,
    Outcome,
    Reason,
    words,
)
from fleetsim.testimony import (
    EVERYWHERE,
    FIGURE_TYPES,
    IMPACTS,
    OUTCOME_COUNTS,
    STAGE,
    STAGE_TYPES,
    WINDOWS,
    Bools,
    Campaign,
    File,
    Ints,
    Listing,
    Quorum,
    Stage,
    Testimony,
    lazily,
    small_types,
)
from fleetsim.vacancies import JUDGED, Tenants, Vacancies, amounts, judge

_HOUR_MS = 3_600_000
NO_DOMAIN = 255
"""Stands for a missing domain in arithmetic; no domain has this number (R31)."""
_ODD = 255
"""Stands for a word that is none of its enumeration."""
OUTAGES = ["set_out_ms", "set_down_ratio_max", "quorum_lost_ms", "application_out_ms"]
"""Figures that only a sweep over the events tells: R76 asks for them, R74 for the rest."""
_MOST = {"set_down_ratio_max", "longest_ms", "cap_bound_ms", "end_ms", "free_ms"}
"""Figures of which a stage has the largest of its parts'; of `first_start_ms` the least, of all others the sum."""
_SWEPT_AT_ONCE = 1 << 22
"""Impacts of applications swept at once: what bounds the memory of that sweep."""
_PRINTS_AT_ONCE = 1 << 26
"""Ids of VMs compared at once, 8 bytes each: what bounds the memory of that comparison."""
_FLEET_COLUMNS = ["vm_row", "vm", "region", "set", "update_domain"]
_EVENT_COLUMNS = ["phase", "kind", "result", "iteration", "vm_row", "start_at", "duration_ms", "effects"]
_OUTCOME_COLUMNS = ["iteration", "vm_row", "outcome", "reason", "paused_ms", "down_ms", "event_count", "effects"]
_HOST_COLUMNS = ["host_from", "host_to"]
_SELF_SERVICE = "self_service"
_NOBODY: Ints = np.empty(0, np.int64)


def files_of_parts(listing: Listing) -> list[tuple[File, ...]]:
    """The files of the fleet that are looked at together: those of a region where VMs are on hosts, else each alone.

    The VMs of a host may be in any of its region's files, and what happens to one of them hangs on the others.
    """
    files = listing.tables["fleet"]
    hosted = {file.folder_region for file in files if "host" in file.columns and "host" not in file.empty_columns}
    together: dict[str, list[File]] = {}
    for file in files:
        together.setdefault(file.folder_region if file.folder_region in hosted else file.path, []).append(file)
    return [tuple(group) for group in together.values()]


class Part:
    """What is looked at together of the fleet: one of its files, or several; columns are read on first use.

    `vms` are its usable rows, each `vm_row` once, rising, all of one region; a place is a position in them.
    """

    def __init__(self, testimony: Testimony, listing: Listing, files: Sequence[File]) -> None:
        self.testimony = testimony
        self.files = files
        self.listing = listing
        self.row_count = sum(file.rows for file in files)
        self.vm_row_min, self.vm_row_max = _range_of(files)
        self.fleet = pl.concat([self._read_fleet(file) for file in files])
        self.region = (
            int(self.fleet["region"][0]) if len(self.fleet) else testimony.region_names.code(files[0].folder_region)
        )
        self._rows = self._usable_rows()
        usable = self.fleet if self._rows is None else self.fleet[self._rows]
        self.set_row, self.set_count = _numbered(usable["set"])
        self.vms = usable.with_columns(set_row=pl.Series(self.set_row, dtype=pl.Int64))
        self._spans: dict[tuple[int, int], tuple[int, int]] = {}  # of cells: first start and last end of an impact
        self._weak: list[pl.DataFrame] = []
        self._asked: dict[int, list[pl.DataFrame]] = {}  # by campaign: requests for VMs on hosts
        self._has_repeats = False
        self._event_count = 0

    def _read_fleet(self, file: File) -> pl.DataFrame:
        fleet = self.listing.read(file, _FLEET_COLUMNS)
        return fleet.with_columns(
            self.testimony.region_names.encode(fleet["region"]),
            pl.col("set").cast(self.testimony.identity),
            pl.col("update_domain").cast(pl.UInt8),
            folder_region=pl.lit(self.testimony.region_names.code(file.folder_region), pl.UInt16),
        )

    @property
    def is_whole(self) -> bool:
        """Whether every row is usable as it stands."""
        return self._rows is None

    def _usable_rows(self) -> Ints | None:
        """Rows of the file that `vms` has; None: all, as they stand."""
        vm_row = self.fleet["vm_row"].to_numpy()
        is_here = self.fleet["region"].to_numpy() == self.region
        if is_here.all() and (vm_row[1:] > vm_row[:-1]).all():
            return None
        here = np.flatnonzero(is_here)
        _, first = np.unique(vm_row[here], return_index=True)
        rows: Ints = here[first]
        return rows

    def column(self, name: str) -> pl.Series | None:
        """A fleet column of `vms`, None where the part has no such column, or nothing in it."""
        if all(name not in file.columns or name in file.empty_columns for file in self.files):
            return None
        if name in ("vm", "set", "update_domain"):
            return self.vms[name]
        columns = [self.listing.read(file, [name]) for file in self.files]
        column = pl.concat(columns, how="vertical_relaxed")[name]
        return column if self._rows is None else column.gather(self._rows)

    def places(self, vm_row: pl.Series) -> Ints:
        """The place of each `vm_row`, -1 for those the part has not."""
        known, wanted = self.vms["vm_row"].to_numpy().astype(np.int64), vm_row.to_numpy().astype(np.int64)
        if not len(known):
            return np.full(len(wanted), -1)
        if known[-1] - known[0] + 1 == len(known):
            return np.where((known[0] <= wanted) & (wanted <= known[-1]), wanted - known[0], -1)
        found = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[found] == wanted, found, -1)

    @lazily
    def lifetimes(self) -> tuple[Ints, Ints] | None:
        """First instant each VM exists and first at which it is gone, ms; None where all live all the time."""
        created, deleted = self.column("created"), self.column("deleted")
        if created is None and deleted is None:
            return None
        since_ms = pl.Series([-NEVER_MS]).new_from_index(0, len(self.vms)) if created is None else self._ms(created)
        until_ms = pl.Series([NEVER_MS]).new_from_index(0, len(self.vms)) if deleted is None else self._ms(deleted)
        return since_ms.fill_null(-NEVER_MS).to_numpy(), until_ms.fill_null(NEVER_MS).to_numpy()

    def _ms(self, instants: pl.Series) -> pl.Series:
        return instants.dt.epoch("ms") - self.testimony.start_epoch_ms

    def lives(self, at_ms: int) -> Bools:
        if self.lifetimes is None:
            return np.ones(len(self.vms), np.bool_)
        created_ms, deleted_ms = self.lifetimes
        lives: Bools = (created_ms <= at_ms) & (at_ms < deleted_ms)
        return lives

    @lazily
    def first_places(self) -> Ints:
        """The place of the first VM of each set."""
        members = np.flatnonzero(self.set_row >= 0)
        first = np.empty(self.set_count, np.int64)
        first[self.set_row[members[::-1]]] = members[::-1]  # the last that is written stays
        return first

    @lazily
    def host(self) -> Ints | None:
        """A number for each VM's host, from 0; None where there are no hosts: a region has them for all its VMs."""
        column = self.column("host")
        if column is None or column.null_count() == len(column):
            return None
        return column.rank("dense").fill_null(0).to_numpy().astype(np.int64) - 1

    def of_hosts(self, mask: Bools) -> Bools:
        """VMs with one of *mask* on their host; where there are no hosts, those of *mask*."""
        if self.host is None:
            return mask
        is_met = np.zeros(len(self.vms), np.bool_)
        is_met[self.host[mask]] = True
        met: Bools = is_met[self.host]
        return met

    @lazily
    def zone(self) -> Ints | None:
        """The place by name of each VM's zone in its region, from 1; 0 where it has none. None where no VM has one."""
        names, column = self.listing.zones_of(self.testimony.region_names.word(self.region)), self.column("zone")
        if not names:
            return None
        if column is None:
            return np.zeros(len(self.vms), np.int64)
        places = column.cast(pl.String).replace_strict(
            names, range(1, len(names) + 1), default=0, return_dtype=pl.Int64
        )
        return places.fill_null(0).to_numpy()

    def cap_groups(self, per: str) -> pl.Series:
        """The zone, or cluster, of each VM, null for none; of a region all are of one."""
        column = None if per == "region" else self.column(per)
        if column is None:
            return pl.Series("group", [""] if per == "region" else [None], pl.String).new_from_index(0, len(self.vms))
        return column.cast(pl.String).alias("group")

    def matches(self, column: str, values: Sequence[Any]) -> Bools:
        """Which VMs have one of *values* in *column*; a null has none."""
        found = self.column(column)
        if found is None or not values:
            return np.zeros(len(self.vms), np.bool_)
        if found.dtype in (pl.Categorical, pl.Enum):
            found = found.cast(pl.String)
        wanted = pl.Series(list(values)).cast(found.dtype)
        return found.is_in(wanted.implode()).fill_null(value=False).to_numpy()

    def domains(self, walk_by: str) -> Ints:
        """The domain of each VM that *walk_by* names; NO_DOMAIN for none."""
        if walk_by == "update_domain":
            return self._update_domains
        return self._fault_domains

    @lazily
    def _update_domains(self) -> Ints:
        return self.vms["update_domain"].cast(pl.Int64).fill_null(NO_DOMAIN).to_numpy()

    @lazily
    def _fault_domains(self) -> Ints:
        column = self.column("fault_domain")
        if column is None:
            return np.full(len(self.vms), NO_DOMAIN)
        return column.cast(pl.Int64).fill_null(NO_DOMAIN).to_numpy()

    @lazily
    def sets(self) -> pl.DataFrame:
        """Sets: set_row, region, set, vm_count."""
        return self.vms[self.first_places].select("set_row", "region", "set", vm_count=pl.Series(self.set_sizes))

    @lazily
    def scale_sets(self) -> pl.DataFrame:
        """Sets that are (placement groups of) scale sets."""
        is_scale_set = self.matches("set_kind", ["scale_set"]) & (self.set_row >= 0)
        rows = np.unique(self.set_row[is_scale_set])
        return self.sets.filter(pl.col("set_row").is_in(pl.Series(rows).implode()))

    @property
    def set_ranges(self) -> list[tuple[int, Any, Any, str]]:
        """Of each file, by region: that, its least and greatest set, and its path."""
        found, offset = [], 0
        for file in self.files:
            sets = self.fleet.slice(offset, file.rows).select("region", "set")
            offset += file.rows
            if sets["set"].null_count() == len(sets):
                continue
            if sets["region"].min() == sets["region"].max():
                found.append((int(sets["region"][0]), sets["set"].min(), sets["set"].max(), file.path))
                continue
            ranges = sets.drop_nulls().group_by("region").agg(low=pl.col("set").min(), high=pl.col("set").max())
            found += [(*row, file.path) for row in ranges.rows()]
        return found

    @lazily
    def in_set_count(self) -> int:
        return int(np.count_nonzero(self.set_row >= 0))

    def cells(self) -> Iterator["Cell"]:
        """This part in each stage of each campaign that should, or does, say something of its VMs."""
        vm_row, known = self.vms["vm_row"], self.testimony.calendar.stages
        met = self.listing.campaigns_in(self.vm_row_min, self.vm_row_max) if len(vm_row) else set()
        for campaign in self.testimony.campaigns:
            stage = known.get((campaign.place, FIRST_ITERATION, self.region))
            if stage is None and campaign.name not in met:
                continue
            cell = Cell(self, campaign, stage)
            yield cell
            while (stage := known.get((campaign.place, cell.iteration + 1, self.region))) is not None:
                cell = Cell(self, campaign, stage, cell)
                yield cell

    def cells_beside(self, cell: "Cell") -> Iterator["Cell"]:
        """The cells of other campaigns, where customers act beside another campaign: else none."""
        places = {campaign for campaign, _, region in self.testimony.calendar.stages if region == self.region}
        if "events" not in self.listing.readable or not places - {cell.campaign.place}:
            return
        for other in self.cells():
            if other.campaign is not cell.campaign and other.stage is not None:
                yield other

    @lazily
    def judged_requests(self) -> pl.DataFrame:
        """What is wrong with where customers' moves go, by the room there was: see `vacancies.judge`."""
        found = [pl.DataFrame(schema=JUDGED)]
        hosts = self.listing.hosts_of(self.testimony.region_names.word(self.region))
        if not self._asked or self.host is None or hosts is None:
            return found[0]
        vacancies, host_row = Vacancies.of(hosts), self.column("host_row")
        takes = [self.column(name) for name in TAKES]
        if host_row is None or takes[0] is None or takes[1] is None:
            return found[0]
        tenants = Tenants(
            vm_row=self.vms["vm_row"].to_numpy().astype(np.int64),
            rank=self.vms["vm"].rank("dense").to_numpy().astype(np.int64),
            host=host_row.to_numpy().astype(np.int64) - vacancies.first_row,
            takes=np.stack([amounts(takes[0]), amounts(takes[1])], axis=1),
            deleted_ms=np.full(len(self.vms), NEVER_MS) if self.lifetimes is None else self.lifetimes[1],
        )
        for place, requests in self._asked.items():
            campaign = self.testimony.campaigns[place]
            assert campaign.self_service is not None
            are_kept = campaign.kind != Kind.REDEPLOY.name.lower()
            recycle_ms = campaign.self_service.recycle_ms
            found.append(judge(vacancies, tenants, place, pl.concat(requests), recycle_ms, are_kept=are_kept))
        return pl.concat(found)

    @property
    def asked_on_hosts(self) -> range:
        """As long as there are requests for VMs on hosts."""
        return range(sum(len(each) for requests in self._asked.values() for each in requests))

    def note(self, cell: "Cell") -> None:
        """Keep of *cell* what rules about the part ask for."""
        self._weak.append(cell.weak_sets)
        if "events" in self.listing.readable and cell.campaign.self_service is not None and self.host is not None:
            self._asked.setdefault(cell.campaign.place, []).append(cell.hosted_requests)
        if "events" in self.listing.readable and len(cell.felt.place):
            felt = cell.felt
            self._spans[cell.key[:2]] = int(felt.start_ms.min()), int(felt.end_ms.max())
            self._has_repeats |= felt.is_repeated
            self._event_count += len(felt.place)

    @lazily
    def impacts(self) -> pl.DataFrame:
        """Impacts that may overlap another of their VM: campaign, vm_row, start_ms, end_ms.

        Campaigns that were at work here one after the other cannot meet, so mostly there are none to look at.
        """
        near: set[tuple[int, int]] = set()
        until_ms, longest = -NEVER_MS, (-1, 0)
        for start_ms, end_ms, of in sorted((*span, of) for of, span in self._spans.items()):
            if start_ms < until_ms:
                near |= {longest, of}
            if end_ms > until_ms:
                until_ms, longest = end_ms, of
        if self._has_repeats:
            near |= set(self._spans)
        frames = [pl.DataFrame(schema={"campaign": pl.UInt16, "vm_row": pl.UInt32, **_SPAN_TYPES})]
        for cell in self.cells():
            if cell.key[:2] in near:
                happened = cell.felt.events.filter(pl.col("place") >= 0)
                campaign = pl.lit(cell.campaign.place, pl.UInt16)
                frames.append(
                    happened.select("vm_row", "start_ms", "end_ms", campaign=campaign).select(frames[0].columns)
                )
        return pl.concat(frames)

    @property
    def happened(self) -> range:
        """As long as there are events here."""
        return range(self._event_count)

    @lazily
    def weak_sets(self) -> pl.DataFrame:
        """Sets that a started stage cannot promise a VM that stays up: set_row, reason."""
        return pl.concat([pl.DataFrame(schema=_WEAK_TYPES), *self._weak]).unique(maintain_order=True)

    @property
    def is_unsure_of_customers(self) -> bool:
        """Whether nothing tells whom customers had left to be hit when a scheduled window opened."""
        if "events" in self.listing.readable:
            return False
        return any(
            campaign.self_service is not None
            and (not self.testimony.has_outcomes or campaign.windows.gap_ms < campaign.length_ms_longest)
            for campaign in self.testimony.campaigns
            if campaign.windows is not None
        )

    @lazily
    def listed(self) -> pl.DataFrame:
        """Sets of this part that no_guarantee.parquet lists: set_row, reason."""
        listed = self.testimony.no_guarantee.join(self.sets, on=["region", "set"])
        return listed.select("set_row", "reason")

    @lazily
    def _assigned_places(self) -> dict[str, Ints]:
        """Places of VMs of sets whose domains were assigned, by the column of these."""
        found = {}
        for column in _DOMAIN_COUNTS:
            flag = self.column(f"is_{column}_assigned")
            if flag is not None and flag.any():
                found[column] = np.flatnonzero(flag.fill_null(value=False).to_numpy() & (self.set_row >= 0))
        return found

    @property
    def assigned(self) -> range:
        """As long as there are VMs whose domains were assigned."""
        return range(sum(map(len, self._assigned_places.values())))

    @lazily
    def _by_id(self) -> Ints:
        """Places of the VMs in sets, by set and id."""
        places, vm = np.flatnonzero(self.set_row >= 0), _ids_of(self.vms["vm"])
        group = self.set_row[places]
        if vm.dtype == pl.Int64:
            ids = vm.to_numpy()[places]
            order = _order_of(group, ids)
            is_tie = (group[order][1:] == group[order][:-1]) & (ids[order][1:] == ids[order][:-1])
            order = np.lexsort((ids, group)) if is_tie.any() else order
        elif (dealt := self._dealt(places)) is not None:
            return dealt
        else:
            rows = pl.DataFrame({"set_row": group, "vm": vm.gather(places)})
            order = rows.select(pl.arg_sort_by("set_row", "vm")).to_series().to_numpy()
        by_id: Ints = places[order]
        return by_id

    def _dealt(self, places: Ints) -> Ints | None:
        """`_by_id` if round robin dealt the domains and VMs stand by domain and id, as preparing leaves them.

        Then the j-th VM with domain d is the (j x k + d)-th of its set, of k domains. Whether that is the order of ids
        a look at each tells: it takes no sort. None: perhaps not.
        """
        group, domain = self.set_row[places], self._update_domains[places]
        key = group * (NO_DOMAIN + 1) + domain
        if not len(places) or (key[1:] < key[:-1]).any():
            return None
        runs = np.flatnonzero(np.diff(key, prepend=-1))
        ordinal = np.arange(len(places)) - np.repeat(runs, np.diff(np.append(runs, len(places))))
        domain_count = _most(domain, np.flatnonzero(np.diff(group, prepend=-1)))[group] + 1
        at, sizes = ordinal * domain_count + domain, self.set_sizes[group]
        if (at >= sizes).any():
            return None
        dealt = np.full(len(places), -1)
        dealt[at + (np.cumsum(self.set_sizes) - self.set_sizes)[group]] = places
        if dealt.min() < 0:
            return None
        vm = _ids_of(self.vms["vm"]).gather(dealt)
        rises = (vm > vm.shift(1)).to_numpy()[1:] | (group[1:] != group[:-1])
        return dealt if rises.all() else None

    @lazily
    def misassigned(self) -> pl.DataFrame:
        """VMs of sets off the round robin: set_row, vm_row, column, found, expected, vm_count, domain_count, is_off.

        `expected` is the place in the set by id, round robin; null where only some of the set were assigned theirs. A
        set with one such VM is here with all that were assigned, of whom those that are right have `is_off` false.
        """
        frames = [pl.DataFrame(schema=_ASSIGNED_TYPES)]
        for column, places in self._assigned_places.items():
            rows = self._by_id
            if len(places) < len(rows):
                is_assigned = np.zeros(len(self.vms), np.bool_)
                is_assigned[places] = True
                rows = rows[is_assigned[rows]]
            group, found = self.set_row[rows], self.domains(column)[rows]
            starts = np.flatnonzero(np.diff(group, prepend=-1))
            counts = np.diff(np.append(starts, len(rows)))
            expected = (np.arange(len(rows)) - np.repeat(starts, counts)) % _DOMAIN_COUNTS[column]
            is_mixed = np.repeat(counts != self.set_sizes[group[starts]], counts)
            is_off = (found != expected) | is_mixed
            if not is_off.any():
                continue
            is_suspect = np.zeros(self.set_count, np.bool_)
            is_suspect[group[is_off]] = True
            at = np.flatnonzero(is_suspect[group])
            of = {
                "set_row": group[at],
                "vm_row": self.vms["vm_row"].gather(rows[at]),
                "found": found[at],
                "expected": expected[at],
                "vm_count": np.repeat(counts, counts)[at],
                "is_mixed": is_mixed[at],
                "is_off": is_off[at],
            }
            told = {"column": pl.lit(column), "domain_count": pl.lit(_DOMAIN_COUNTS[column], pl.Int64)}
            expected_where_all = pl.when(~pl.col("is_mixed")).then("expected").alias("expected")
            frames.append(pl.DataFrame(of).with_columns(expected_where_all, **told).select(list(_ASSIGNED_TYPES)))
        return pl.concat(frames)

    @lazily
    def set_sizes(self) -> Ints:
        """VMs of each set."""
        return np.bincount(self.set_row[self.set_row >= 0], minlength=self.set_count)

    def with_ids(self, offenders: pl.DataFrame) -> pl.DataFrame:
        """*offenders* with the set, domain and VM of each row; null where there is none."""
        for frame, key in ((self.sets, "set_row"), (self.vms, "vm_row")):
            if key in offenders.columns:
                named = ("set", "update_domain", "vm")
                absent = [name for name in named if name in frame.columns and name not in offenders.columns]
                offenders = offenders.join(frame.select(key, *absent), on=key, how="left", maintain_order="left")
        return offenders

    def named(self, offenders: pl.DataFrame) -> pl.DataFrame:
        """*offenders* with the user's own names instead of rows and codes."""
        offenders = self.with_ids(offenders)
        if "region" not in offenders.columns:
            offenders = offenders.with_columns(region=pl.lit(self.region, pl.UInt16))
        first = [name for name in (*STAGE, *_FIRST_SHOWN) if name in offenders.columns]
        return self.testimony.named(offenders).select(*first, pl.exclude(*first, *_NUMBERS))


def _range_of(files: Sequence[File]) -> tuple[int, int]:
    """Least and greatest `vm_row` in *files*; what is read between them are their rows, as rows follow each other."""
    with_rows = [file for file in files if file.rows] or files
    return min(file.vm_row_min for file in with_rows), max(file.vm_row_max for file in with_rows)


_SPAN_TYPES = {"start_ms": pl.Int64, "end_ms": pl.Int64}
_WEAK_TYPES = {"set_row": pl.Int64, "reason": pl.String}
_DOMAIN_COUNTS = {"update_domain": UPDATE_DOMAIN_COUNT_DEFAULT, "fault_domain": FAULT_DOMAIN_COUNT_DEFAULT}
_ASSIGNED_TYPES = {
    "set_row": pl.Int64,
    "vm_row": pl.UInt32,
    "column": pl.String,
    "found": pl.Int64,
    "expected": pl.Int64,
    "vm_count": pl.Int64,
    "domain_count": pl.Int64,
    "is_off": pl.Boolean,
}


def _numbered(sets: pl.Series) -> tuple[Ints, int]:
    """A number from 0 for each set, in order of first rows, -1 for null; and how many there are."""
    runs = sets.rle_id().to_numpy().astype(np.int64)
    if not len(runs):
        return runs, 0
    first = np.flatnonzero(np.diff(runs, prepend=-1))
    run_sets = sets.gather(first)
    known = run_sets.drop_nulls().unique(maintain_order=True)
    if len(known) == len(run_sets) - run_sets.null_count():  # sets stand together, as they should
        has_set = run_sets.is_not_null().to_numpy()
        number = np.where(has_set, np.cumsum(has_set) - 1, -1)
    else:
        places = known.to_frame("set").with_row_index("number")
        found = run_sets.to_frame("set").join(places, on="set", how="left", maintain_order="left")["number"]
        number = found.cast(pl.Int64).fill_null(-1).to_numpy()
    return number[runs], len(known)


class Cell:
    """What one stage of a campaign did to the VMs of one part; arrays and frames are made on first use.

    Arrays over VMs are by place in `part.vms`, arrays over events by row of `events`. Rows of an iteration that there
    should not be are looked at with the first. *before* is the same in the iteration before.
    """

    def __init__(self, part: Part, campaign: Campaign, stage: Stage | None, before: "Cell | None" = None) -> None:
        self.testimony = part.testimony
        self.part = part
        self.campaign = campaign
        self.stage = stage
        self.iteration = FIRST_ITERATION if stage is None else stage.iteration
        self._before = before

    @property
    def key(self) -> tuple[int, int, int]:
        return self.campaign.place, self.iteration, self.part.region

    @lazily
    def _others(self) -> frozenset[int]:
        """Iterations whose rows are not looked at here."""
        if self.stage is None:
            return frozenset()
        if self.iteration > FIRST_ITERATION:
            return _ITERATIONS - {self.iteration}
        place, _, region = self.key
        return frozenset(each for each in _ITERATIONS if (place, each, region) in self.testimony.calendar.stages) - {
            self.iteration
        }

    def _happened(self, table: str, columns: Sequence[str]) -> pl.DataFrame:
        """Rows of *table* within this part's range of VMs, from whichever files have them, each with its place."""
        low, high = self.part.vm_row_min, self.part.vm_row_max
        frames = [
            rows.with_columns(folder_region=pl.lit(self.testimony.region_names.code(region), pl.UInt16))
            for region, rows in self.part.listing.read_range(
                table, low, high, columns, self.campaign.name, self._others
            )
        ]
        if not frames:
            return pl.DataFrame(schema={**small_types([_DECLARED[table][name] for name in columns]), **_PLACED})
        rows = pl.concat(frames)
        return rows.with_columns(place=pl.Series(self.part.places(rows["vm_row"]), dtype=pl.Int64))

    # Who is concerned

    @lazily
    def selected(self) -> Bools:
        """VMs that the campaign's regions and `where` select, whatever their dates; then those left before."""
        if self._before is not None:
            return self._before.left
        mask = np.full(len(self.part.vms), self.stage is not None)
        for column, values in self.campaign.where.items() if self.stage is not None else ():
            mask &= self.part.matches(column, values)
        return self.part.of_hosts(mask)

    @property
    def left(self) -> Bools:
        """VMs that were not updated, and are in the next iteration if there is one."""
        left: Bools = np.zeros(len(self.part.vms), np.bool_)
        if self.testimony.has_outcomes:
            told = self.outcomes_here
            left[told["place"].to_numpy()[np.isin(told["outcome_code"].to_numpy(), COME_BACK)]] = True
            return left
        if self.stage is None or self.stage.until_ms is None:  # nothing tells who was to be updated by when
            left[:] = self.selected & (self.event_count == 0)
            return left
        left[:] = self.selected & np.isin(self.expected_outcomes[0], COME_BACK)
        return left

    @lazily
    def _may_be_out(self) -> Bools:
        """VMs `selected` of which nothing tells whether the iteration before has left them."""
        before = self._before
        if before is None or self.testimony.has_outcomes or before.stage is None or before.stage.until_ms is None:
            return np.zeros(len(self.part.vms), np.bool_)
        comes_back = sum(1 << outcome for outcome in COME_BACK)
        may_be_out: Bools = before.expected_outcomes[2] & np.uint16(~comes_back & 0xFFFF) > 0
        return self.selected & (may_be_out | before._may_be_out)

    @lazily
    def reboots(self) -> Bools:
        """VMs of a size that cannot be frozen, where a freeze reboots them."""
        return self.part.matches("size", self.campaign.reboot_sizes)

    @lazily
    def _keeps_memory(self) -> Bools:
        """VMs of a size that can be frozen, or that is rebooted."""
        if not self.campaign.cannot_freeze_sizes:
            return np.ones(len(self.part.vms), np.bool_)
        return ~self.part.matches("size", self.campaign.cannot_freeze_sizes)

    def _can_freeze_at(self, at_ms: int) -> Bools:
        """VMs that a stage which starts at *at_ms* can hit: nobody beside one that lives then and is left alone."""
        if self.part.host is None or not self.campaign.cannot_freeze_sizes:
            return self._keeps_memory
        return self._keeps_memory & ~self.part.of_hosts(~self._keeps_memory & self.part.lives(at_ms))

    @lazily
    def can_freeze(self) -> Bools:
        return self._can_freeze_at(self._judged[1])

    def hittable_at(self, at_ms: int) -> Bools:
        """VMs a unit that starts at *at_ms* could hit."""
        if self.campaign.kind not in IMPACTS:
            return np.zeros(len(self.part.vms), np.bool_)
        mask: Bools = self.selected & self._can_freeze_at(at_ms)
        return mask & self.part.lives(at_ms) if self.part.lifetimes is not None else mask

    @lazily
    def hittable(self) -> Bools:
        """VMs the stage could hit when it started."""
        if self.stage is None or self.stage.start_ms is None:
            return np.zeros(len(self.part.vms), np.bool_)
        mask = self.hittable_at(self.stage.start_ms)
        if not self.stage.is_told and self.part.lifetimes is not None:
            # Who was created before the first impact may have been so after the stage started: an event tells.
            mask &= (self.part.lifetimes[0] <= self.stage.asked_ms) | (self.event_count > 0)
        return mask & ~self._is_out

    @lazily
    def _is_out(self) -> Bools:
        """VMs that are out of the iteration when the scheduled window opens, as customers have settled it."""
        if self.campaign.self_service is None:
            return np.zeros(len(self.part.vms), np.bool_)
        outcome, _ = self.settled
        out: Bools = (outcome >= 0) & ~self.is_moving
        return out | self.left_out

    @lazily
    def left_out(self) -> Bools:
        """VMs beside a skipped one on its host, or that come there later: they are skipped too (semantics.md 34)."""
        asked, stage = self.campaign.self_service, self.stage
        if asked is None or asked.retries or self.part.host is None or stage is None or stage.start_ms is None:
            return np.zeros(len(self.part.vms), np.bool_)
        outcome, _ = self.settled
        left_out: Bools = self.part.of_hosts(outcome == Outcome.SKIPPED) & (outcome < 0) & self.selected
        return left_out if self.part.lifetimes is None else left_out & (self.part.lifetimes[1] > stage.start_ms)

    @lazily
    def reachable(self) -> Bools:
        """VMs that the stage's units could hit at any time: of hosts also those that come while it is at work."""
        if self.part.host is None or self.part.lifetimes is None or self.stage is None or self.stage.start_ms is None:
            return self.hittable
        stays: Bools = self.part.lifetimes[1] > self.stage.start_ms
        if self.campaign.kind not in IMPACTS:
            return self.hittable
        return stays & self.selected & self.can_freeze & ~self._is_out

    @lazily
    def lengths_ms(self) -> tuple[Ints, Ints]:
        """The least and the greatest length of an impact of each VM."""
        low = np.full(len(self.part.vms), self.campaign.length_ms_min)
        high = np.full(len(self.part.vms), self.campaign.length_ms_max)
        for sizes, low_ms, high_ms in self.campaign.families:
            mask = self.part.matches("size", sizes)
            low[mask], high[mask] = low_ms, high_ms
        low[self.reboots], high[self.reboots] = self.campaign.reboot_length_ms
        return low, high

    @property
    def times_ms(self) -> tuple[Ints, Ints]:
        """The least and the greatest time that each VM is down, all its tries in."""
        low, high = self.lengths_ms
        return low, high + self.campaign.retried_ms

    def times_ms_of(self, places: Ints, starts: Ints) -> tuple[Ints, Ints]:
        """The least of the least and the greatest of the greatest of `times_ms` in each slice of *places*."""
        if not self.campaign.families and not self.campaign.reboot_sizes:
            low_ms, high_ms = self.campaign.length_ms_min, self.campaign.length_ms_max + self.campaign.retried_ms
            return np.full(len(starts), low_ms), np.full(len(starts), high_ms)
        low, high = self.times_ms
        return _least(low[places], starts), _most(high[places], starts)

    # What happened

    @lazily
    def _rows(self) -> pl.DataFrame:
        """Every row of `events` with a `vm_row` in this part's range; `place` is -1 for VMs the part has not."""
        hosts = _HOST_COLUMNS if self.part.host is not None else []
        events = self._happened("events", [*_EVENT_COLUMNS, *hosts])
        start_ms = pl.col("start_at").dt.epoch("ms") - self.testimony.start_epoch_ms
        return (
            # As 64 bits, for sums of lengths keep the type of what they add up.
            events.with_columns(pl.col("duration_ms").cast(pl.Int64), pl.col(hosts).cast(pl.UInt32), start_ms=start_ms)
            .with_columns(end_ms=pl.col("start_ms") + pl.col("duration_ms"))
            .drop("start_at")
        )

    @lazily
    def events(self) -> pl.DataFrame:
        """Rows of what the platform did."""
        return self._rows.filter(pl.col("phase") != _SELF_SERVICE) if self._has_requests else self._rows

    @lazily
    def requests(self) -> pl.DataFrame:
        """Rows of what customers asked for."""
        return self._rows.filter(pl.col("phase") == _SELF_SERVICE) if self._has_requests else self._rows.head(0)

    @lazily
    def hosted_requests(self) -> pl.DataFrame:
        """`requests` for VMs on hosts: place, iteration, start_ms, end_ms, result, effects, host_from, host_to."""
        requests = self.requests.with_columns(pl.col("result").cast(pl.String)).filter(pl.col("place") >= 0)
        return requests.select("iteration", "result", "effects", "place", "start_ms", "end_ms", *_HOST_COLUMNS)

    @property
    def events_on_hosts(self) -> pl.DataFrame:
        """`events` of VMs that are on hosts."""
        return self.events if self.part.host is not None else self.events.head(0)

    @lazily
    def strayed(self) -> pl.DataFrame:
        """Rows of what the platform did that tell of another host than it leaves their VM on."""
        host_row = self.part.column("host_row")
        tells = any("host_from" in file.columns for file in self.part.listing.tables["events"])
        if self.part.host is None or host_row is None or not tells:
            return self.events.head(0).with_columns(pl.lit(None, pl.UInt32).alias(name) for name in _HOST_COLUMNS)
        place = self.events["place"].to_numpy()
        own = host_row.gather(place.clip(0)).cast(pl.UInt32)
        leaves = Effect.HOST_CHANGED in self.campaign.effects
        stays = (self.events["result"].cast(pl.String) == "aborted") | (not leaves)
        is_wrong = pl.col("host_from").ne_missing(own) | pl.col("host_to").ne_missing(pl.when(stays).then(own))
        return self.events.filter(is_wrong & pl.Series(place >= 0))

    @lazily
    def _has_requests(self) -> bool:
        return _SELF_SERVICE in self._rows["phase"].unique().cast(pl.String).to_list()

    @property
    def felt(self) -> "Cell":
        """The same with the moves that customers started as impacts, beside those by the platform."""
        return self._felt if self._has_requests else self  # itself is not kept: a ring is freed late, if ever

    @lazily
    def _felt(self) -> "Cell":
        return _Felt(self)

    @property
    def awaited(self) -> pl.DataFrame:
        """`requests` of stages with windows, else none."""
        return self.requests if self.stage is not None and self.stage.until_ms is not None else self.requests.head(0)

    @lazily
    def planned(self) -> pl.DataFrame:
        """Requests that customers' own plan lists for the window, and that they can make: vm_row, start_ms."""
        asks, stage, windows = self.campaign.self_service, self.stage, self.campaign.windows
        if asks is None or asks.plan is None or windows is None or stage is None or stage.start_ms is None:
            return pl.DataFrame(schema={"vm_row": pl.UInt32, "start_ms": pl.Int64})
        closes_ms = stage.start_ms - windows.gap_ms
        is_open = (pl.col("start_ms") >= closes_ms - windows.self_service_ms) & (pl.col("start_ms") < closes_ms)
        vms = self.part.vms.select(pl.col("vm").cast(pl.String), "vm_row").with_row_index("place")
        asked = asks.plan.filter(is_open).join(vms, on="vm", maintain_order="left")
        place, at_ms = asked["place"].to_numpy(), asked["start_ms"].to_numpy()
        # Once a move has begun, or an attempt has failed for good, nobody asks.
        result = pl.col("result").cast(pl.String)
        is_end = (result == "completed") | ((result == "aborted") & pl.lit(not asks.retries))
        ends = self.requests.filter(pl.col("place") >= 0, is_end)
        begun_ms = np.full(len(self.part.vms), NEVER_MS)
        np.minimum.at(begun_ms, ends["place"].to_numpy(), ends["start_ms"].to_numpy())
        can = self.selected[place] & (at_ms <= begun_ms[place])
        if self.part.lifetimes is not None:
            created_ms, deleted_ms = (each[place] for each in self.part.lifetimes)
            can &= (created_ms <= at_ms) & (at_ms < deleted_ms)
        return asked.filter(pl.Series(can)).select("vm_row", "start_ms")

    @property
    def moves(self) -> pl.DataFrame:
        """Starts of VMs on other hosts, by their customers or the platform."""
        by_platform = self.events if Effect.HOST_CHANGED in self.campaign.effects else self.events.head(0)
        by_platform = by_platform.filter(pl.col("result").cast(pl.String) != "aborted")
        return pl.concat([self.awaited.filter(pl.col("duration_ms") > 0), by_platform]).filter(pl.col("place") >= 0)

    @lazily
    def row_count(self) -> Ints:
        """Rows of `events` of each VM."""
        if len(self._rows) == len(self.place) and not self._has_requests:
            return self.event_count
        return np.bincount(_placed(self._rows)["place"].to_numpy(), minlength=len(self.part.vms))

    @lazily
    def settled(self) -> tuple[npt.NDArray[np.int8], Ints]:
        """How customers ended the iteration for each VM, -1 where they did not, and when."""
        outcome = np.full(len(self.part.vms), -1, np.int8)
        at_ms = np.full(len(self.part.vms), NEVER_MS)
        asked = self.campaign.self_service
        if asked is None:
            return outcome, at_ms
        if "events" not in self.part.listing.readable:
            if self.testimony.has_outcomes:
                told = self.outcomes_here
                code = told["outcome_code"].to_numpy()
                is_theirs = np.isin(code, [Outcome.UPDATED_SELF_SERVICE, Outcome.SKIPPED])
                is_theirs &= told["reason_code"].to_numpy() != Reason.HOST_LEFT_OUT
                place = told["place"].to_numpy()[is_theirs]
                outcome[place], at_ms[place] = code[is_theirs], self.campaign.asked_ms
            return outcome, at_ms
        told = self.requests.filter(pl.col("place") >= 0)
        result, place = told["result"].cast(pl.String), told["place"].to_numpy()
        end_ms = told["end_ms"].to_numpy()
        is_moved = (result == "completed").to_numpy()
        deleted_ms = np.full(len(place), NEVER_MS)
        if self.part.lifetimes is not None:
            deleted_ms = self.part.lifetimes[1][place]
        effects = told["effects"].to_numpy()
        is_cut = is_moved & (end_ms == deleted_ms) & (effects == 0)
        outcome[place[is_moved]] = Outcome.UPDATED_SELF_SERVICE
        outcome[place[is_cut]] = Outcome.DELETED
        is_out = (result == "aborted").to_numpy() & (not asked.retries)
        outcome[place[is_out]] = Outcome.SKIPPED
        at_ms[place[is_moved | is_out]] = end_ms[is_moved | is_out]
        return outcome, at_ms

    @lazily
    def is_moving(self) -> Bools:
        """VMs whose customers have started what goes on when the scheduled window opens."""
        outcome, at_ms = self.settled
        if self.stage is None or self.stage.start_ms is None:
            return np.zeros(len(outcome), np.bool_)
        moving: Bools = (outcome >= 0) & (at_ms > self.stage.start_ms)
        return moving

    @lazily
    def waits_ms(self) -> Ints:
        """When the move of each VM ends that is under way under another campaign when the stage starts, else 0."""
        until_ms = np.zeros(len(self.part.vms), np.int64)
        stage = self.stage
        if stage is None or stage.start_ms is None:
            return until_ms
        at_ms = stage.start_ms if stage.is_told else stage.asked_ms
        for other in self._customers_beside:
            moves = other.requests.filter(pl.col("place") >= 0, pl.col("start_ms") < stage.start_ms)
            moves = moves.filter(pl.col("end_ms") > at_ms)
            np.maximum.at(until_ms, moves["place"].to_numpy(), moves["end_ms"].to_numpy())
        return until_ms

    @property
    def has_customers_beside(self) -> bool:
        """Whether customers act in another campaign."""
        return any(each.self_service is not None and each is not self.campaign for each in self.testimony.campaigns)

    @property
    def _customers_beside(self) -> "Iterator[Cell]":
        if self.has_customers_beside:
            for other in self.part.cells_beside(self):
                if other.campaign.self_service is not None:
                    yield other

    @lazily
    def barred(self) -> tuple[Bools, Bools]:
        """Of `requests` of VMs there are, those that must not be granted, and those that need not (semantics.md 29).

        For its VM has an impact, or waits for a stage at work: when that one was seen to be overdue is not told.
        """
        told = self.requests.filter(pl.col("place") >= 0)
        place, at_ms = told["place"].to_numpy(), told["start_ms"].to_numpy()
        is_barred, may_be = np.zeros((2, len(place)), np.bool_)
        for other in self.part.cells_beside(self) if len(place) else ():
            stage = other.stage
            moves = other.requests.filter(pl.col("place") >= 0, pl.col("duration_ms") > 0)
            begin_ms, end_ms = np.full(len(self.part.vms), NEVER_MS), np.zeros(len(self.part.vms), np.int64)
            begin_ms[moves["place"].to_numpy()] = moves["start_ms"].to_numpy()
            end_ms[moves["place"].to_numpy()] = moves["end_ms"].to_numpy()
            # Of two requests for a VM at one instant the campaign that is first in the file is first.
            last_ms = at_ms if other.campaign.place < self.campaign.place else at_ms - 1
            is_barred |= (begin_ms[place] <= last_ms) & (at_ms < end_ms[place])
            if stage is None or stage.start_ms is None:
                continue
            begin_ms, end_ms = np.full(len(self.part.vms), NEVER_MS), np.zeros(len(self.part.vms), np.int64)
            np.minimum.at(begin_ms, other.place, other.start_ms)
            np.maximum.at(end_ms, other.place, other.end_ms)
            is_at_work = (stage.asked_ms <= at_ms) & (at_ms < stage.ends_ms)
            may_be |= is_at_work & other.hittable[place] & ((end_ms[place] == 0) | (not stage.is_told))
            since_ms = np.where(end_ms > 0, stage.start_ms, NEVER_MS) if stage.is_told else begin_ms
            is_barred |= (since_ms[place] <= at_ms) & (at_ms < end_ms[place])
        return is_barred, may_be | is_barred

    @property
    def announced(self) -> pl.DataFrame:
        """`events` of a stage that was announced to customers, else none."""
        stage = self.stage
        is_announced = self.campaign.windows is not None and stage is not None and stage.start_ms is not None
        return self.events if is_announced else self.events.head(0)

    @lazily
    def tries(self) -> "_Tries":
        """Events of the part's VMs: what impacts are made of."""
        events = _placed(self.events)
        names = ["place", "start_ms", "end_ms", "duration_ms", "effects"]
        place, start_ms, end_ms, duration_ms, effects = (events[name].to_numpy() for name in names)
        is_aborted = np.zeros(len(events), np.bool_)
        if self.campaign.windows is not None:
            is_aborted = (events["result"].cast(pl.String) == "aborted").to_numpy()
        is_cut = np.zeros(len(events), np.bool_)
        if self.part.lifetimes is not None:
            is_gone = end_ms == self.part.lifetimes[1][place]
            is_cut = is_gone & (duration_ms < self.lengths_ms[1][place]) & (effects == 0)
        return _Tries(place, start_ms, end_ms, duration_ms, effects, is_aborted, is_cut, events["iteration"].to_numpy())

    @lazily
    def _impacts(self) -> "_Tries":
        """The impacts all else is made of: tries of a VM that follow failed ones are one with them."""
        windows, folded = self.campaign.windows, self.tries
        if windows is None or not folded.is_aborted.any():
            return folded
        folded, counts = folded.folded()
        if self.part.lifetimes is not None:  # gone when it would have been tried again
            is_gone = folded.is_aborted & (folded.end_ms == self.part.lifetimes[1][folded.place])
            may_try = (folded.end_ms - folded.start_ms <= windows.retry_timeout_ms) & (counts < TRIES_MAX)
            folded = replace(folded, is_cut=folded.is_cut | (is_gone & may_try))
        return folded

    @property
    def place(self) -> Ints:
        return self._impacts.place

    @property
    def start_ms(self) -> Ints:
        return self._impacts.start_ms

    @property
    def end_ms(self) -> Ints:
        return self._impacts.end_ms

    @property
    def duration_ms(self) -> Ints:
        return self._impacts.duration_ms

    @lazily
    def is_down(self) -> Bools:
        """Impacts that lose the memory, and so count as down times: all others are pauses."""
        if not self.campaign.reboot_sizes:
            return np.full(len(self.place), Effect.MEMORY_LOST in self.campaign.effects)
        kind = self.events.filter(pl.col("place") >= 0)["kind"].cast(pl.String)  # without windows tries are not folded
        return (kind == Kind.REBOOT.name.lower()).to_numpy()

    @property
    def is_cut(self) -> Bools:
        """Impacts that end because their VM is deleted: it left no effects, and might have lasted longer."""
        return self._impacts.is_cut

    @property
    def is_failed(self) -> Bools:
        """Impacts that have not updated their VM, though it stayed."""
        failed: Bools = self._impacts.is_aborted & ~self._impacts.is_cut
        return failed

    @lazily
    def event_count(self) -> Ints:
        """Impacts of each VM."""
        return np.bincount(self.place, minlength=len(self.part.vms))

    @property
    def is_repeated(self) -> bool:
        """Whether a VM has two impacts."""
        return bool(len(self.place) and self.event_count.max() > 1)

    @lazily
    def paused_ms(self) -> Ints:
        """Time each VM was paused, summed."""
        return self._lost_ms(~self.is_down)

    @lazily
    def down_ms(self) -> Ints:
        """Time each VM was down, summed."""
        return self._lost_ms(self.is_down)

    def _lost_ms(self, is_counted: Bools) -> Ints:
        """Time of the events of each VM that are counted, summed."""
        lost_ms = np.zeros(len(self.part.vms), np.int64)
        if not is_counted.any():
            return lost_ms
        place, duration_ms = self.place, self.duration_ms
        if not is_counted.all():
            place, duration_ms = place[is_counted], duration_ms[is_counted]
        if self.is_repeated:
            np.add.at(lost_ms, place, duration_ms)
        else:
            lost_ms[place] = duration_ms
        return lost_ms

    @lazily
    def effects(self) -> npt.NDArray[np.uint8]:
        """Union of the effects on each VM."""
        effects = np.zeros(len(self.part.vms), np.uint8)
        if self.tries is self._impacts and not self.is_repeated:
            effects[self.place] = self.tries.effects
        else:
            np.bitwise_or.at(effects, self.tries.place, self.tries.effects)
        return effects

    @lazily
    def outcomes(self) -> pl.DataFrame:
        """Every outcome with a `vm_row` in this part's range, words as codes; `place` is -1 where there is no VM."""
        outcomes = self._happened("outcomes", _OUTCOME_COLUMNS)
        return outcomes.with_columns(
            outcome_code=_coded(outcomes["outcome"], words(Outcome)),
            reason_code=_coded(outcomes["reason"], words(Reason)),
        )

    @lazily
    def outcomes_here(self) -> pl.DataFrame:
        """`outcomes` of the part's VMs."""
        return _placed(self.outcomes)

    @property
    def unstarted(self) -> pl.DataFrame:
        """VMs selected of a stage that never started, though not for want of room: vm_row, asked_ms, is_hittable."""
        stage = self.stage
        vm_row = self.part.vms.select("vm_row")
        if stage is None or stage.start_ms is not None or stage.overdue_count:
            return vm_row.head(0).with_columns(asked_ms=pl.lit(0), is_hittable=pl.lit(value=False))
        is_hittable = pl.Series(self.hittable_at(stage.judged_ms) & ~self._gone_unhit)
        told = vm_row.with_columns(asked_ms=pl.lit(stage.judged_ms), is_hittable=is_hittable)
        return told.filter(pl.Series(self.selected))

    @lazily
    def expected_outcomes(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        """How each VM must end: outcome, reason, and a bit for each outcome that will do as well, as nothing tells."""
        vm_count = len(self.part.vms)
        has_windows = self.campaign.windows is not None
        outcome = np.full(vm_count, Outcome.UPDATED_SCHEDULED if has_windows else Outcome.UPDATED, np.uint8)
        reason = np.full(vm_count, Reason.NONE, np.uint8)
        or_else = np.zeros(vm_count, np.uint16)
        if self.stage is None:
            return outcome, reason, or_else
        is_overdue, judged_ms = self._judged
        if is_overdue:
            outcome[:], reason[:] = Outcome.OVERDUE, Reason.NO_ROOM_IN_CALENDAR
        lives = self.part.lives(judged_ms)
        if self.campaign.kind not in IMPACTS:
            outcome[lives], reason[lives] = Outcome.UNAFFECTED, Reason.NO_IMPACT
        else:
            left_alone = lives & ~self.can_freeze
            outcome[left_alone], reason[left_alone] = Outcome.UNAFFECTED, Reason.CANNOT_FREEZE
        if self.part.lifetimes is not None:
            created_ms, deleted_ms = self.part.lifetimes
            goes, has_events = self.reachable & (deleted_ms < NEVER_MS), "events" in self.part.listing.readable
            if not is_overdue:
                open_until_ms = self._open_until_ms(judged_ms)
                came_late = created_ms > open_until_ms
                outcome[came_late], reason[came_late] = Outcome.ALREADY_UPDATED, Reason.NONE
                if self.part.host is not None and has_events:  # to a host that was tried in vain
                    has_failed = np.zeros(len(self.part.vms), np.bool_)
                    has_failed[self.place[self.is_failed]] = True
                    comes = came_late & self.reachable
                    outcome[comes & self.part.of_hosts(has_failed)] = Outcome.FAILED
                    if self.campaign.windows is not None and self.campaign.windows.fails:
                        has_failed[self.place[self.is_cut]] = True  # perhaps
                        or_else[comes & self.part.of_hosts(has_failed)] |= np.uint16(1 << Outcome.FAILED)
                if self.part.host is not None and self.hittable.any():
                    # A host that is left alone stays so; and who cannot be frozen is left alone wherever it comes.
                    beside = (created_ms > judged_ms) & ~self.can_freeze
                    outcome[beside], reason[beside] = Outcome.UNAFFECTED, Reason.CANNOT_FREEZE
                # When a host was done that nobody was left on, or whose update no event tells, is not known.
                is_unsure = came_late & self.reachable & (open_until_ms == judged_ms) & (self.part.host is not None)
                or_else[is_unsure & goes] |= np.uint16(1 << Outcome.DELETED)
                or_else[is_unsure & (not has_events)] |= np.uint16(1 << Outcome.UPDATED)
                or_else[is_unsure & has_windows] |= np.uint16(1 << Outcome.OVERDUE)
                goes &= ~came_late
            is_gone = deleted_ms <= judged_ms
            outcome[is_gone], reason[is_gone] = Outcome.DELETED, Reason.NONE
            if is_overdue and not self.testimony.has_outcomes:  # when it was judged is not told
                or_else[deleted_ms <= self.stage.tries_ms[-1]] |= np.uint16(1 << Outcome.DELETED)
            if has_events:
                is_left = self.event_count == 0
                is_left[self.place[self.is_cut]] = True
                outcome[goes & is_left] = Outcome.DELETED
            else:
                or_else[goes] |= np.uint16(1 << Outcome.DELETED)
        if "events" in self.part.listing.readable:
            failed = self.place[self.is_failed]
            outcome[failed[outcome[failed] == Outcome.UPDATED_SCHEDULED]] = Outcome.FAILED
        elif self.campaign.windows is not None and self.campaign.windows.fails:
            or_else |= np.uint16(1 << Outcome.FAILED)
        if has_windows and self.stage.until_ms is not None and "events" in self.part.listing.readable:
            # Who was not hit in the window; when that was seen, and who was gone by then, is not told.
            unhit = self.hittable & (self.event_count == 0) & ~self.is_moving
            outcome[unhit], reason[unhit] = Outcome.OVERDUE, Reason.NO_ROOM_IN_WINDOW
            if self.part.lifetimes is not None:
                goes = self.part.lifetimes[1] <= self.stage.until_ms
                if self.part.host is not None:  # who comes to a host that had no room shares its fate
                    comes = self.reachable & ~self.hittable & (self.event_count == 0)
                    comes &= self.part.of_hosts(unhit & ~goes)
                    outcome[comes], reason[comes] = Outcome.OVERDUE, Reason.NO_ROOM_IN_WINDOW
                    or_else[comes], unhit = 0, unhit | comes
                or_else[unhit & goes] |= np.uint16(1 << Outcome.DELETED)
        if self.campaign.self_service is not None and not is_overdue:
            settled, _ = self.settled
            outcome[settled >= 0], reason[settled >= 0] = settled[settled >= 0], Reason.NONE
            if "events" not in self.part.listing.readable:
                or_else |= np.uint16(1 << Outcome.UPDATED_SELF_SERVICE)
                if self.campaign.self_service.fails and not self.campaign.self_service.retries:
                    or_else |= np.uint16(1 << Outcome.SKIPPED)
                if self.part.lifetimes is not None:
                    or_else[self.part.lifetimes[1] < NEVER_MS] |= np.uint16(1 << Outcome.DELETED)
            outcome[self.left_out], reason[self.left_out] = Outcome.SKIPPED, Reason.HOST_LEFT_OUT
            or_else[self.left_out] = 0
        return outcome, reason, or_else

    def _open_until_ms(self, judged_ms: int) -> Ints:
        """Until when each VM may come and have part in the stage: its start, or on a host the update of that."""
        until_ms = np.full(len(self.part.vms), judged_ms)
        if self.part.host is not None and "events" in self.part.listing.readable:
            updated_ms = np.full(len(self.part.vms), NEVER_MS)  # of hosts
            np.minimum.at(updated_ms, self.part.host[self.place], self.start_ms)
            of_vm = updated_ms[self.part.host]
            until_ms = np.where(of_vm < NEVER_MS, of_vm, until_ms)
        return until_ms

    @lazily
    def _judged(self) -> tuple[bool, int]:
        """Whether the stage is overdue, and when it started or was found never to."""
        stage = self.stage
        if stage is None:
            return False, self.campaign.asked_ms
        if stage.given_up_ms is not None and self._is_given_up(stage.given_up_ms):
            return True, stage.given_up_ms
        is_overdue = stage.start_ms is None and stage.overdue_count > 0
        return is_overdue, next(filter(self._was_judged_at, stage.tries_ms), stage.judged_ms)

    def _was_judged_at(self, at_ms: int) -> bool:
        """Whether who is told to have been deleted, while the stage waited, were gone at *at_ms*, and no others."""
        if self.part.lifetimes is None or not self.testimony.has_outcomes:
            return True
        assert self.stage is not None
        told = self.outcomes_here
        deleted_ms = self.part.lifetimes[1][told["place"].to_numpy()]
        is_deleted = told["outcome_code"].to_numpy() == Outcome.DELETED
        first_ms, *_, last_ms = 0, *self.stage.tries_ms
        meanwhile = (first_ms < deleted_ms) & (deleted_ms <= last_ms)
        return bool(np.array_equal((deleted_ms <= at_ms)[meanwhile], is_deleted[meanwhile]))

    def _is_given_up(self, given_up_ms: int) -> bool:
        """Whether the stage had somebody to hit when asked for: where none was here, who came later tells."""
        assert self.stage is not None
        if self.campaign.kind not in IMPACTS:
            return False
        if self.hittable_at(self.stage.asked_ms).any():
            return True
        if self.part.lifetimes is None or not self.testimony.has_outcomes:
            return False
        created_ms, told = self.part.lifetimes[0], self.outcomes_here
        came = (self.stage.asked_ms < created_ms) & (created_ms <= given_up_ms)
        is_told = came[told["place"].to_numpy()]
        return bool((told["outcome_code"].to_numpy()[is_told] != Outcome.ALREADY_UPDATED).any())

    @property
    def _gone_unhit(self) -> Bools:
        """VMs deleted before their stage, that never started, was found to come too late."""
        if self.stage is None or self.stage.given_up_ms is None or self.part.lifetimes is None:
            return np.zeros(len(self.part.vms), np.bool_)
        gone: Bools = self.part.lifetimes[1] <= self.stage.given_up_ms
        return gone

    # How it walked

    @lazily
    def _clusters(self) -> tuple[Ints, list[str]]:
        """The cluster that each VM walks with, -1 for none, and their names: the one that all VMs of its set are in."""
        column = self.part.column("cluster") if self.campaign.is_in_step and self.part.host is None else None
        if column is None:
            return np.full(len(self.part.vms), -1), []
        names = column.cast(pl.String).drop_nulls().unique().sort().to_list()
        codes = column.cast(pl.String).replace_strict(names, list(range(len(names))), default=-1, return_dtype=pl.Int64)
        given = codes.fill_null(-1).to_numpy()
        members = np.flatnonzero(self.part.set_row >= 0)
        set_row = self.part.set_row[members]
        lowest, highest = np.full(self.part.set_count, len(names)), np.full(self.part.set_count, -1)
        np.minimum.at(lowest, set_row, given[members])
        np.maximum.at(highest, set_row, given[members])
        walks_with = np.full(len(self.part.vms), -1)
        walks_with[members] = np.where(lowest == highest, lowest, -1)[set_row]
        return walks_with, names

    @lazily
    def walks(self) -> "Walks":
        """The sets and singles here that walk alone; none, where hosts are the units."""
        alone = self.hittable if self.part.host is None else np.zeros(len(self.part.vms), np.bool_)
        if self.campaign.self_service is not None:
            alone = alone & ~self.is_moving
        if self.campaign.is_in_step:
            alone = alone & (self._clusters[0] < 0)
        places = np.flatnonzero(alone)
        set_row = self.part.set_row[places]
        walker = np.where(set_row < 0, self.part.set_count + places, set_row)
        return Walks.of(self, places, walker)

    @lazily
    def clusters(self) -> "Walks":
        """This part's share of the clusters whose sets walk in step."""
        cluster, names = self._clusters
        places = np.flatnonzero(self.hittable & ~self.is_moving & (cluster >= 0))
        return Walks.of(self, places, cluster[places], names)

    @lazily
    def reach(self) -> "_Reach":
        """How long the stage could have taken here, had it started when it was judged."""
        assert self.stage is not None
        cluster, _ = self._clusters
        is_hit = np.logical_or.reduce([self.hittable_at(at_ms) for at_ms in self.stage.tries_ms])
        longest_ms = int(self.times_ms[1][is_hit].max(initial=0))
        if self.part.host is not None:  # all may have to go one after the other
            host_count = len(np.unique(self.part.host[is_hit]))
            return _Reach(host_count, frozenset(), longest_ms, host_count)
        places = np.flatnonzero(is_hit & (cluster < 0) & (self.part.set_row >= 0))
        populated = np.unique(self.part.set_row[places] * 256 + self.domains[places]) // 256
        domain_count = int(np.bincount(populated).max(initial=0)) if len(populated) else int(is_hit.any())
        in_step = np.unique(self.domains[is_hit & (cluster >= 0)])
        count, until_ms = int(np.count_nonzero(is_hit)), self._moves_until_ms(self.stage.tries_ms[-1])
        return _Reach(domain_count, frozenset(in_step.tolist()), longest_ms, count, until_ms)

    def _moves_until_ms(self, at_ms: int) -> int:
        """When the last move ends that is under way at *at_ms* under another campaign; *at_ms* if there is none."""
        moves = [other.requests.filter(pl.col("start_ms") < at_ms)["end_ms"].max() for other in self._customers_beside]
        return max([at_ms, *(int(end_ms) for end_ms in moves if end_ms is not None)])  # type: ignore[arg-type]

    @lazily
    def loads(self) -> "Loads":
        """What the caps count here."""
        part, cluster = self.part, self._clusters[0]
        set_row, places = part.set_row[self.place], self.place
        names = np.array([_number_of(name) for name in self._clusters[1]], np.int64)
        # Units by a number that other parts of the region give to no other: of clusters in step they may share some.
        first_row = int(part.vms["vm_row"][0]) if len(part.vms) else 0
        walker = np.where(set_row < 0, places, np.append(part.first_places, 0)[set_row]) + first_row
        domain = np.where(set_row < 0, NO_DOMAIN, self.domains[places])
        in_step = np.flatnonzero(cluster[places] >= 0)
        walker[in_step] = names[cluster[places[in_step]]]
        if part.host is not None:
            walker, domain = part.host[places], np.full(len(places), NO_DOMAIN)
        end_ms_max = np.where(self.is_cut, self.start_ms + self.times_ms[1][places], self.end_ms)
        unit = pl.DataFrame(
            {
                "walker": walker,
                "domain": domain,
                "start_ms": self.start_ms,
                "end_ms": self.end_ms,
                "end_ms_max": end_ms_max,
            }
        )
        everybody = pl.DataFrame({"host": np.arange(len(part.vms)) if part.host is None else part.host})
        frames, bases = [_LOADS], [_BASES]
        for number, cap in enumerate(self.campaign.caps):
            told = part.cap_groups(cap.per)
            count = {"cap": pl.lit(number, pl.UInt8)}
            # A host has all its VMs here: no other part counts it too.
            base, unit_count = (pl.col("host").n_unique(), pl.lit(1)) if cap.counts_hosts else (pl.len(), pl.len())
            counts = everybody.with_columns(group=told).drop_nulls().group_by("group").agg(base=base.cast(pl.Int64))
            bases.append(counts.with_columns(**count).select(_BASES.columns))
            # With those of no group: they too may keep a unit that has others.
            counted = unit.with_columns(group=told.gather(places))
            by_unit = counted.group_by("group", "walker", "domain", "start_ms").agg(
                pl.col("end_ms", "end_ms_max").max(), count=unit_count.cast(pl.Int64)
            )
            held_ms = pl.col("start_ms") + self.campaign.work_ms
            ends = [pl.max_horizontal(end, held_ms).alias(end) for end in ("end_ms", "end_ms_max")]
            frames.append(by_unit.with_columns(*ends, **count).select(_LOADS.columns))
        return Loads(pl.concat(frames), pl.concat(bases))

    # Sets, all their living VMs

    @lazily
    def strength(self) -> Ints:
        """Of each set when the stage started: -1 where none of its VMs was to be hit, else 0, or why it is weak."""
        set_row, set_count = self.part.set_row, self.part.set_count
        stage = self.stage
        if stage is None or stage.start_ms is None:
            return np.full(set_count, -1)
        has_hit = np.bincount(set_row[self.hittable & (set_row >= 0)], minlength=set_count) > 0
        lives = self.part.lives(stage.start_ms) & (set_row >= 0)
        members = np.flatnonzero(lives)
        living = np.bincount(set_row[members], minlength=set_count)
        weak = np.where(living == 1, 1, np.where(self._is_of_one_domain(members), 2, 0))
        weak[self._shared_hosts(lives) & (weak == 0)] = 3
        return np.where(has_hit, weak, -1)

    def _is_of_one_domain(self, members: Ints) -> Bools:
        """Sets whose VMs at *members* are of one domain, or that have none there."""
        one: Bools = np.ones(self.part.set_count, np.bool_)
        group, domain = self.part.set_row[members], self.domains[members]
        if (group[1:] < group[:-1]).any():
            order = np.argsort(group, kind="stable")
            group, domain = group[order], domain[order]
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        one[group[starts]] = _least(domain, starts) == _most(domain, starts)
        return one

    def _shared_hosts(self, lives: Bools) -> Bools:
        """Sets of which some host has VMs, of those that live, in two domains."""
        shares = np.zeros(self.part.set_count, np.bool_)
        if self.part.host is not None:
            rows = np.flatnonzero(lives)
            key = (self.part.set_row[rows] * len(self.part.vms) + self.part.host[rows]) * 256 + self.domains[rows]
            key.sort()
            together = key // 256
            is_shared = (together[1:] == together[:-1]) & (key[1:] != key[:-1])
            shares[together[1:][is_shared] // len(self.part.vms)] = True
        return shares

    @property
    def zone(self) -> Ints | None:
        """The zone of each VM, where these take turns."""
        return self.part.zone if self.campaign.zones_take_turns else None

    @lazily
    def domains(self) -> Ints:
        """The domain walked of each VM: where zones take turns, each has its own, whatever their numbers."""
        domains = self.part.domains(self.campaign.walk_by)
        if self.zone is None:
            return domains
        of_zone = np.minimum(self.zone * UPDATE_DOMAIN_COUNT_MAX + domains, NO_DOMAIN - 2)
        return np.where(domains == NO_DOMAIN, NO_DOMAIN, of_zone)

    @lazily
    def weak_sets(self) -> pl.DataFrame:
        """Sets the stage cannot promise a VM that stays up: set_row, reason."""
        rows = np.flatnonzero(self.strength > 0)
        reason = np.array(["", "one_vm", "one_domain", "shared_host"])[self.strength[rows]]
        return pl.DataFrame({"set_row": rows, "reason": reason}, schema=_WEAK_TYPES)

    @lazily
    def _in_sets(self) -> Ints:
        """Events of VMs in sets."""
        return np.flatnonzero(self.part.set_row[self.place] >= 0)

    @lazily
    def tidy_outages(self) -> pl.DataFrame:
        """Each time a domain of a tidy set goes out: set_row, at_ms, down, vm_count (of the set).

        Tidy is a set that has living VMs in two domains and of which each domain goes out once, all at once, when the
        former is all back. What a sweep would find of it, these rows tell: one domain is out at any time, most of it
        when it goes, and never all of the set. It is told by a look at each event; a sweep sorts them.
        """
        part = self.part
        happened = self._in_sets
        is_by_set = self.testimony.quorum is not None and self.testimony.quorum.by == "set"
        if part.lifetimes is not None or self.is_repeated or is_by_set or not len(happened):
            return pl.DataFrame(schema=dict.fromkeys(("set_row", "at_ms", "down", "vm_count"), pl.Int64))
        place, start_ms, end_ms = self.place[happened], self.start_ms[happened], self.end_ms[happened]
        key = part.set_row[place] * 256 + self.domains[place]
        if (key[1:] < key[:-1]).any():
            order = np.argsort(key, kind="stable")
            key, start_ms, end_ms = key[order], start_ms[order], end_ms[order]
        runs = np.flatnonzero(np.diff(key, prepend=-1))
        first_ms, back_ms = _least(start_ms, runs), _most(end_ms, runs)
        is_tidy = (first_ms == _most(start_ms, runs)) & (first_ms < _least(end_ms, runs))
        down, group = np.diff(np.append(runs, len(key))), key[runs] // 256
        order = _order_of(group, first_ms)
        group, first_ms, back_ms, down, is_tidy = (each[order] for each in (group, first_ms, back_ms, down, is_tidy))
        is_tidy[1:] &= (group[1:] != group[:-1]) | (back_ms[:-1] <= first_ms[1:])
        count, is_whole = part.set_sizes, ~self._is_of_one_domain(np.flatnonzero(part.set_row >= 0))
        is_whole[group[~is_tidy]] = False
        rows = np.flatnonzero(is_whole[group])
        of = {"set_row": group[rows], "at_ms": first_ms[rows], "down": down[rows], "vm_count": count[group[rows]]}
        return pl.DataFrame(of)

    @lazily
    def states(self) -> "_States":
        """How many VMs of each set were out, and how many living, from one change to the next; with their domains.

        But for tidy sets.
        """
        part = self.part
        is_tidy = np.zeros(part.set_count, np.bool_)
        is_tidy[self.tidy_outages["set_row"].to_numpy()] = True
        happened = _NOBODY if is_tidy.all() else self._in_sets[~is_tidy[part.set_row[self.place[self._in_sets]]]]
        if not len(happened):
            return _States.none()
        place = self.place[happened]
        impacts = part.set_row[place], self.start_ms[happened], self.end_ms[happened]
        members = np.flatnonzero(part.set_row >= 0)
        lifetimes = part.lifetimes
        if lifetimes is not None:
            lifetimes = lifetimes[0][members], lifetimes[1][members]
        whose = part.set_row[members], lifetimes
        weights = _powers(self.domains[place]) + (
            _powers(self._host_in_set[place])[1:] if part.host is not None else []
        )
        return _States.of(impacts, weights, whose, _powers(self.domains[members]), part.set_count)

    @lazily
    def _host_in_set(self) -> Ints:
        """The number of each VM's host among those of its set: small enough for sums of squares."""
        assert self.part.host is not None
        pairs, number = np.unique(self.part.set_row * len(self.part.vms) + self.part.host, return_inverse=True)
        first = np.searchsorted(pairs, self.part.set_row * len(self.part.vms))
        in_set: Ints = number - first
        return in_set

    @lazily
    def set_states(self) -> pl.DataFrame:
        """States with some VM out.

        set_row, at_ms, down, vm_count (living), is_one_domain, has_two_domains, is_one_host: those out are of one.
        """
        states = self.states.where(self.states.values["out"] > 0)
        value = states.values
        swept = pl.DataFrame(
            {
                "set_row": states.group,
                "at_ms": states.at_ms,
                "down": value["out"],
                "vm_count": value["living"],
                # Numbers are all equal just if their count times the sum of squares is the square of their sum.
                "is_one_domain": value["out"] * value["out_squares"] == value["out_sum"] ** 2,
                "has_two_domains": value["living"] * value["living_squares"] != value["living_sum"] ** 2,
                "is_one_host": value["out"] * value["out_host_squares"] == value["out_host_sum"] ** 2
                if "out_host_sum" in value
                else np.zeros(len(states), np.bool_),
            }
        )
        tidy = {name: pl.lit(value=True) for name in ("is_one_domain", "has_two_domains")}
        return pl.concat([self.tidy_outages.with_columns(**tidy, is_one_host=pl.lit(value=False)), swept])

    @property
    def fault_domain_states(self) -> pl.DataFrame:
        """`set_states` where fault domains are walked, else none."""
        return self.set_states if self.campaign.walk_by == "fault_domain" else self.set_states.head(0)

    @lazily
    def left_alone(self) -> Ints:
        """VMs selected that cannot be frozen, rebooted or not, or that a campaign without impact leaves alone."""
        is_left = ~self.can_freeze if self.campaign.kind in IMPACTS else np.ones(len(self.part.vms), np.bool_)
        return np.flatnonzero(self.selected & (is_left | self.reboots))

    # Sums

    def figures(self) -> "Figures":
        """This cell's share of the figures of `summary` and the counts of `stages`."""
        figures: Figures = {}

        def tell(figure: str, value: Any, bin_start_ms: int | None = None, value_max: Any = None) -> None:
            low, high = (
                float(each) if isinstance(each, float | np.floating) else int(each)
                for each in (value, value if value_max is None else value_max)
            )
            figures[figure, bin_start_ms] = (low, high)

        felt = self.felt
        if len(felt.place):
            felt._tell_bins(tell)
        tell("unavailable_ms", felt.duration_ms.sum())
        since_ms = np.full(len(felt.place), self.campaign.asked_ms)
        if self.part.lifetimes is not None:
            since_ms = np.maximum(since_ms, self.part.lifetimes[0][felt.place])
        tell("pending_vm_ms", (felt.end_ms - since_ms)[~felt._impacts.is_aborted].sum())
        tell("vm_hit_count", np.count_nonzero(felt.event_count))
        tell("set_count", np.count_nonzero(self.strength >= 0))
        tell("single_count", np.count_nonzero(self.hittable & (self.part.set_row < 0)))
        tell("no_guarantee_count", np.count_nonzero(self.strength > 0))
        states = felt.states
        tell("set_out_ms", states.out_ms)
        if self.testimony.quorum is not None and self.testimony.quorum.by == "set":
            tell("quorum_lost_ms", states.quorum_lost_ms(self.testimony.quorum))
        states = self.states  # what was promised binds the platform alone
        promised = states.where((self.strength[states.group] == 0) & (states.values["living"] > 0))
        ratios = promised.values["out"] / promised.values["living"]
        tidy = self.tidy_outages.filter(pl.Series(self.strength[self.tidy_outages["set_row"].to_numpy()] == 0))
        tidy_ratios = (tidy["down"] / tidy["vm_count"]).to_numpy()
        tell("set_down_ratio_max", max(ratios.max(initial=0.0), tidy_ratios.max(initial=0.0)))
        self._tell_outcomes(tell)
        return figures

    def _tell_bins(self, tell: Callable[..., None]) -> None:
        hour = self.start_ms // _HOUR_MS
        first = int(hour.min())
        starts = np.bincount(hour - first)
        unavailable_ms = np.bincount(hour - first, weights=self.duration_ms)
        for place in np.flatnonzero(starts):
            tell("hourly_start_count", starts[place], (first + int(place)) * _HOUR_MS)
            tell("hourly_unavailable_ms", unavailable_ms[place], (first + int(place)) * _HOUR_MS)
        for figure, of_vm, is_counted in (
            ("paused_ms_histogram", self.paused_ms, ~self.is_down),
            ("down_ms_histogram", self.down_ms, self.is_down),
        ):
            if not is_counted.any():
                continue
            is_met = np.zeros(len(of_vm), np.bool_)
            is_met[self.place[is_counted]] = True
            lost_ms, counts = np.unique(of_vm[is_met], return_counts=True)
            # The lower bound of a bin is the value with all but its seven leading bits cleared.
            shift = np.maximum(np.frexp(lost_ms)[1] - 7, 0)
            bounds, starts = np.unique(lost_ms >> shift << shift, return_index=True)
            counts = np.add.reduceat(counts, starts)
            for bound, count in zip(bounds.tolist(), counts.tolist(), strict=True):
                tell(figure, count, bound)

    def _tell_outcomes(self, tell: Callable[..., None]) -> None:
        """`<outcome>_count`, from the outcomes or, where there are none, from what they should be."""
        if self.testimony.has_outcomes:
            told = self.outcomes_here
            is_now = (told["iteration"] == self.iteration).to_numpy()
            told_code = told["outcome_code"].to_numpy()
            codes = np.bincount(told_code if is_now.all() else told_code[is_now], minlength=_ODD + 1)
            for code, figure in enumerate(OUTCOME_COUNTS):
                tell(figure, codes[code])
            return
        expected, _, or_else = (each[self.selected] for each in self.expected_outcomes)
        is_sure = (or_else == 0) & ~self._may_be_out[self.selected]
        for code, figure in enumerate(OUTCOME_COUNTS):
            is_it, may_be = expected == code, or_else >> code & 1 > 0
            sure_count = np.count_nonzero(is_it & is_sure)
            tell(figure, sure_count, value_max=sure_count + np.count_nonzero((is_it & ~is_sure) | may_be))

    def named(self, offenders: pl.DataFrame) -> pl.DataFrame:
        """*offenders* with the user's own names instead of rows and codes."""
        return _in_stage(self.testimony, self.key, self.part.with_ids(offenders))


_FIRST_SHOWN = ["host", "set", "cluster", "update_domain", "fault_domain", "vm", "vm_row"]
_NUMBERS = ["unit_row", "walk_row", "set_row", "place", "outcome_code", "reason_code"]
"""Columns that mean something here only."""


def _in_stage(testimony: Testimony, key: tuple[int, int, int], offenders: pl.DataFrame) -> pl.DataFrame:
    """*offenders* with their stage, names in front."""
    names = testimony.campaigns[key[0]].name, key[1], testimony.region_names.word(key[2])
    stage = dict(zip(STAGE, names, strict=True))
    told = [pl.lit(value).alias(name) for name, value in stage.items() if name not in offenders.columns]
    named = testimony.named(offenders).with_columns(told)
    first = [name for name in (*STAGE, *_FIRST_SHOWN) if name in named.columns]
    return named.select(*first, pl.exclude(*first, *_NUMBERS))


_DECLARED = {"events": EVENTS, "outcomes": OUTCOMES}
_PLACED = {"folder_region": pl.UInt16, "place": pl.Int64}
_OUT = ("out", "out_sum", "out_squares", "out_host_sum", "out_host_squares")
_LIVING = ("living", "living_sum", "living_squares")


class _Felt(Cell):
    """A cell in which moves that customers started are impacts like any other."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell.part, cell.campaign, cell.stage, cell._before)
        # Not on first use: who is kept by what it keeps is freed late, if ever.
        self.__dict__["events"] = pl.concat([cell.events, cell.requests.filter(pl.col("duration_ms") > 0)])


@dataclass(frozen=True, slots=True)
class _Tries:
    """Events of VMs of a part, or the impacts that they make up; arrays, one entry each."""

    place: Ints
    start_ms: Ints
    end_ms: Ints
    duration_ms: Ints
    effects: npt.NDArray[np.uint8]  # of the last one
    is_aborted: Bools  # the last one
    is_cut: Bools  # the last one, by its VM's deletion
    iteration: Ints

    def folded(self) -> "tuple[_Tries, Ints]":
        """The same with what follows a failed try of a VM in an iteration made one with that; and of how many each."""
        order = np.lexsort((self.start_ms, self.iteration, self.place))
        values = {name: getattr(self, name)[order] for name in self.__slots__}
        is_new = np.ones(len(order), np.bool_)
        is_same = [values[name][1:] == values[name][:-1] for name in ("place", "iteration")]
        follows = values["is_aborted"][:-1] & (values["start_ms"][1:] >= values["end_ms"][:-1])
        is_new[1:] = ~np.logical_and.reduce([*is_same, follows])
        first = np.flatnonzero(is_new)
        counts = np.diff(np.append(first, len(order)))
        folded = {name: value[first + counts - 1] for name, value in values.items()}
        folded |= {"start_ms": values["start_ms"][first], "duration_ms": np.add.reduceat(values["duration_ms"], first)}
        return _Tries(**folded), counts


Figures = dict[tuple[str, int | None], tuple[float, float]]
"""A figure and its bin, and between which values it must be: one value but where a cut impact hides a length."""


def _placed(rows: pl.DataFrame) -> pl.DataFrame:
    """*rows* of VMs that their part has."""
    return rows.filter(pl.col("place") >= 0) if len(rows) and rows["place"].min() < 0 else rows  # type: ignore[operator]


def _coded(column: pl.Series, known: Sequence[str]) -> pl.Series:
    """Codes (u8) of the words of *column*; _ODD for others."""
    codes = {word: code for code, word in enumerate(known)}
    met = [str(word) for word in column.unique().cast(pl.String)]
    if len(met) == 1:
        return pl.repeat(codes.get(met[0], _ODD), len(column), dtype=pl.UInt8, eager=True)
    return column.cast(pl.String).replace_strict(codes, default=_ODD, return_dtype=pl.UInt8)


def _powers(domain: Ints) -> list[Ints]:
    """What is added up of domains: how many, their sum, and the sum of their squares."""
    return [np.ones(len(domain), np.int64), domain, domain**2]


def _order_of(group: Ints, at_ms: Ints) -> Ints:
    """The order by group, then instant, as stable as it need be for what is equal in both."""
    if not len(group):
        return _NOBODY
    low_ms = int(at_ms.min())
    span_ms = int(at_ms.max()) - low_ms + 1
    if int(group.max()) < 2**62 // span_ms:  # one number sorts faster than two
        return np.argsort(group * span_ms + (at_ms - low_ms))
    return np.lexsort((at_ms, group))


def _total(group: Ints, value: Ints, group_count: int) -> Ints:
    """The sum of *value* in each group; sums are far below 2**53, so floats are exact."""
    return np.bincount(group, weights=value, minlength=group_count).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Reach:
    """What bounds the time of a stage in one part."""

    domain_count: int  # of its largest walk, clusters in step aside; with hosts, how many of these there are
    cluster_domains: frozenset[int]  # of those
    length_ms_max: int
    unit_count: int
    from_ms: int = 0  # when the last of the moves is over that it may have had to wait for


_LOADS = pl.DataFrame(
    schema={
        "cap": pl.UInt8,
        "group": pl.String,
        "walker": pl.Int64,
        "domain": pl.Int64,
        "start_ms": pl.Int64,
        "end_ms": pl.Int64,
        "end_ms_max": pl.Int64,
        "count": pl.Int64,
    }
)
_BASES = pl.DataFrame(schema={"cap": pl.UInt8, "group": pl.String, "base": pl.Int64})


_OVERLOADS = {
    **STAGE_TYPES,
    **dict.fromkeys(("per", "name"), pl.String),
    **dict.fromkeys(("at_ms", "count", "limit"), pl.Int64),
}


def _number_of(name: str) -> int:
    """A number below 0 for *name*, which no other has."""
    return -1 - int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


@dataclass(frozen=True, slots=True)
class Loads:
    """What caps count: the units at work in each zone, cluster or region, and how many VMs, or hosts, there are."""

    units: pl.DataFrame  # as _LOADS: an end is, where VMs went, between two instants
    bases: pl.DataFrame  # as _BASES

    @staticmethod
    def joined(campaign: Campaign, loads: "Sequence[Loads]") -> "_Swept":
        """All that caps count in a stage, from what each part of its region knows."""
        key = ["cap", "group", "walker", "domain", "start_ms"]
        units = pl.concat([share.units for share in loads])
        # Of a unit whose VMs lie in several parts, or groups, all are held until the last is back.
        ends = units.group_by("walker", "domain", "start_ms").agg(pl.col("end_ms", "end_ms_max").max())
        units = units.group_by(key).agg(pl.col("count").sum()).join(ends, on=["walker", "domain", "start_ms"])
        bases = pl.concat([share.bases for share in loads]).group_by("cap", "group").agg(pl.col("base").sum())
        bases = bases.sort("cap", "group").with_row_index("number")
        units = units.join(bases.select("cap", "group", "number"), on=["cap", "group"])
        number = units["number"].to_numpy().astype(np.int64)
        one = np.ones(len(units), np.int64)
        starts, ends_, counts = (units[name].to_numpy() for name in ("start_ms", "end_ms", "count"))
        states = _States.swept(
            np.concatenate([number, number]),
            np.concatenate([starts, ends_]),
            {"count": np.concatenate([counts, -counts]), "unit_count": np.concatenate([one, -one])},
        )
        base, cap = bases["base"].to_numpy(), bases["cap"].to_numpy()
        limit = np.zeros(len(bases), np.int64)
        for place, given in enumerate(campaign.caps):
            limit[cap == place] = given.limit(base[cap == place])
        over = np.flatnonzero((states.values["count"] > limit[states.group]) & (states.values["unit_count"] > 1))
        held = np.minimum(counts, limit[number])
        bounds_ms = []
        for end in ("end_ms", "end_ms_max"):
            load = np.zeros(len(bases), np.int64)
            np.add.at(load, number, held * (units[end].to_numpy() - starts))
            bounds_ms.append(int((-(-load // limit)).max(initial=0)))
        named = bases[states.group[over]].select(
            per=pl.Series([given.per for given in campaign.caps], dtype=pl.String)[cap[states.group[over]].tolist()],
            name="group",
            at_ms=pl.Series(states.at_ms[over]),
            count=pl.Series(states.values["count"][over]),
            limit=pl.Series(limit[states.group[over]]),
        )
        return _Swept(len(units), named, (bounds_ms[0], bounds_ms[1]))


@dataclass(frozen=True, slots=True)
class _Swept:
    """What caps made of a stage.

    overloads  instants from which there was too much at work, but where a single unit was alone (semantics.md 21)
    bound_ms   what the work takes at least under the tightest of them: at the least and at the most
    """

    unit_count: int
    overloads: pl.DataFrame
    bound_ms: tuple[int, int]


@dataclass(frozen=True)
class _States:
    """What holds of groups of VMs from one instant of change to the next; arrays, a row a group and instant."""

    group: Ints
    at_ms: Ints
    next_ms: Ints  # of the same group; where nothing follows, `at_ms`
    values: dict[str, Ints]

    def __len__(self) -> int:
        return len(self.group)

    @staticmethod
    def of(
        impacts: tuple[Ints, Ints, Ints],
        weights: Sequence[Ints],
        members: tuple[Ints, tuple[Ints, Ints] | None],
        member_weights: Sequence[Ints],
        group_count: int,
    ) -> "_States":
        """Sweep *impacts* (group, start, end) over *members* (group, and when each is created and deleted, or None).

        `values` has, of those out, the sums of *weights* as `_OUT`, as far as there are any; of those living those of
        *member_weights* as `_LIVING`.
        """
        group, start_ms, end_ms = impacts
        member, lifetimes = members
        groups, at_ms = np.concatenate([group, group]), np.concatenate([start_ms, end_ms])
        changes = {name: np.concatenate([weight, -weight]) for name, weight in zip(_OUT, weights, strict=False)}
        if lifetimes is None or not len(group):
            states = _States.swept(groups, at_ms, changes)
            living = [_total(member, weight, group_count) for weight in member_weights]
            base = {name: value[states.group] for name, value in zip(_LIVING, living, strict=False)}
            return replace(states, values={**states.values, **base})
        # Lives are cut to the time in which something happens, so that each is one change up and one down.
        low_ms, high_ms = int(start_ms.min()) - 1, int(end_ms.max()) + 1
        is_met = np.zeros(group_count, np.bool_)
        is_met[group] = True
        created_ms, deleted_ms = lifetimes
        rows = np.flatnonzero(is_met[member] & (created_ms < high_ms) & (deleted_ms > low_ms))
        begins, goes = np.maximum(created_ms[rows], low_ms), np.minimum(deleted_ms[rows], high_ms)
        nobody = np.zeros(2 * len(rows), np.int64)
        changes = {name: np.concatenate([change, nobody]) for name, change in changes.items()}
        for name, weight in zip(_LIVING, member_weights, strict=False):
            changes[name] = np.concatenate([np.zeros(len(at_ms), np.int64), weight[rows], -weight[rows]])
        return _States.swept(
            np.concatenate([groups, member[rows], member[rows]]), np.concatenate([at_ms, begins, goes]), changes
        )

    @staticmethod
    def none(*names: str) -> "_States":
        """Of no group."""
        return _States(_NOBODY, _NOBODY, _NOBODY, dict.fromkeys((*_OUT, *names, *_LIVING), _NOBODY))

    @staticmethod
    def swept(group: Ints, at_ms: Ints, changes: Mapping[str, Ints]) -> "_States":
        """Add up *changes* of each group in order of time; all of one instant at once."""
        if not len(group):
            return _States.none(*changes)
        # VMs of a unit mostly follow each other: what they change together is one change, and there is less to sort.
        runs = np.flatnonzero((np.diff(group, prepend=-1) != 0) | (np.diff(at_ms, prepend=at_ms[0] - 1) != 0))
        if len(runs) < len(group):
            group, at_ms = group[runs], at_ms[runs]
            changes = {name: np.add.reduceat(change, runs) for name, change in changes.items()}
        low_ms = int(at_ms.min())
        span_ms = int(at_ms.max()) - low_ms + 1
        if int(group.max()) < 2**62 // span_ms:  # one number sorts faster than two
            key = group * span_ms + (at_ms - low_ms)
            order = np.argsort(key)
            key = key[order]
            is_first = np.diff(key, prepend=-1) != 0
        else:
            order = np.lexsort((at_ms, group))
            is_first = (np.diff(group[order], prepend=-1) != 0) | (np.diff(at_ms[order], prepend=low_ms - 1) != 0)
        first = np.flatnonzero(is_first)
        rows = order[first]
        groups, instants = group[rows], at_ms[rows]
        is_last = np.append(groups[1:] != groups[:-1], True)
        next_ms = np.where(is_last, instants, np.append(instants[1:], 0))
        starts = np.append(0, np.flatnonzero(is_last)[:-1] + 1)
        values = {}
        for name, change in changes.items():
            summed = np.cumsum(np.add.reduceat(change[order], first))
            # What the groups before leave over; nothing, where each comes back to where it was.
            left = np.append(0, summed[starts[1:] - 1])
            values[name] = summed - np.repeat(left, np.diff(np.append(starts, len(groups)))) if left.any() else summed
        return _States(groups, instants, next_ms, values)

    def where(self, mask: Bools) -> "_States":
        values = {name: value[mask] for name, value in self.values.items()}
        return _States(self.group[mask], self.at_ms[mask], self.next_ms[mask], values)

    @property
    def out_ms(self) -> int:
        """Time in which all living VMs of a group were out, summed over groups."""
        is_out = (self.values["out"] > 0) & (self.values["out"] >= self.values["living"])
        return int((self.next_ms - self.at_ms)[is_out & (self.values["living"] > 0)].sum())

    def quorum_lost_ms(self, quorum: Quorum) -> int:
        """Time in which fewer VMs were up than the quorum asks for, though as many were living, summed over groups."""
        out, living = self.values["out"], self.values["living"]
        need = quorum.need(living)
        is_lost = (out > 0) & (living >= need) & (living - out < need)
        return int((self.next_ms - self.at_ms)[is_lost].sum())


class Walks:
    """Who walks in one stage, domain by domain, and when each unit was visited.

    A walk is a set, a cluster whose sets are in step, or a single; a unit is a walk's domain or a single; a visit is
    what starts in a unit at one instant. Walks are numbered from 0 in order of their first rows, units after their
    walks. Arrays: W walks, U units, N visits in order of unit and start, L VMs that go some time, C that come later.
    """

    @property
    def may_wait(self) -> bool:
        """Whether walks may have to wait for others."""
        return bool(self.campaign.caps) or self.zones_take_turns

    def __init__(
        self,
        testimony: Testimony,
        campaign: Campaign,
        stage: Stage | None,
        whose: Part | Sequence[str],
        *,
        walk: Mapping[str, npt.NDArray[Any]],
        unit: Mapping[str, Ints],
        loss: Mapping[str, Ints],
        visit: Mapping[str, Ints],
        gain: Mapping[str, Ints] | None = None,
        has_movers: bool = False,
        zones_take_turns: bool = False,
    ) -> None:
        self.zones_take_turns = zones_take_turns
        self.has_movers = has_movers  # customers of this campaign have started what goes on when its window opens
        self.testimony = testimony
        self.campaign = campaign
        self.stage = stage
        self._is_told = stage is None or stage.is_told
        self._whose = whose  # the part of sets and singles, or the names of clusters; `walk["name"]` counts in it
        # first_vm_row, name (a place in the part, or a cluster), is_set; is_held_up, perhaps, until moves of customers
        # are over
        self.walk = walk
        self.unit = (
            unit  # walk, domain, zone, first_vm_row, vm_count, gone_ms (NEVER_MS: some stay), length_ms_min, _max
        )
        self.loss = loss  # unit, deleted_ms
        self.gain = gain or {"unit": _NOBODY, "created_ms": _NOBODY}  # those that come after the stage's start
        self.visit = visit  # unit, start_ms, impact_end_ms, end_ms, end_ms_max, hit_count

    @classmethod
    def of(cls, cell: Cell, places: Ints, walker: Ints, clusters: Sequence[str] | None = None) -> Self:
        """The walks of the VMs at *places*, each with its *walker*: a set, a single, or one of *clusters*."""
        part = cell.part
        domain = cls._domains_of(cell, places)
        key = walker * 256 + domain
        if (key[1:] < key[:-1]).any():
            order = np.argsort(key, kind="stable")
            places, key = places[order], key[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        sizes = np.diff(np.append(starts, len(key)))
        number = np.repeat(np.arange(len(starts)), sizes)
        unit_walker = key[starts] // 256
        walk_starts = np.flatnonzero(np.diff(unit_walker, prepend=-1))
        vm_row = part.vms["vm_row"].to_numpy().astype(np.int64)[places]
        unit_first = _least(vm_row, starts)
        low, high = cell.times_ms_of(places, starts)
        gone_ms, loss, gain = np.full(len(starts), NEVER_MS), {"unit": _NOBODY, "deleted_ms": _NOBODY}, None
        has_movers = bool(cell.is_moving.any())  # who are none of *places*: any of the walks may wait for them
        unit_waits = np.full(len(starts), int(has_movers))
        if not has_movers and cell.has_customers_beside:
            unit_waits = _most(cell.waits_ms[places], starts)
        if part.lifetimes is not None and cell.stage is not None and cell.stage.start_ms is not None:
            created_ms, deleted_ms = (each[places] for each in part.lifetimes)
            is_late = created_ms > cell.stage.start_ms  # nothing waits for it
            gone_ms = _most(np.where(is_late, -NEVER_MS, deleted_ms), starts)
            goes, comes = np.flatnonzero(deleted_ms < NEVER_MS), np.flatnonzero(is_late)
            loss = {"unit": number[goes], "deleted_ms": deleted_ms[goes]}
            gain = {"unit": number[comes], "created_ms": created_ms[comes]}
        return cls(
            cell.testimony,
            cell.campaign,
            cell.stage,
            cell.part if clusters is None else clusters,
            walk={
                "first_vm_row": _least(unit_first, walk_starts),
                "name": places[starts[walk_starts]] if clusters is None else unit_walker[walk_starts],
                "is_set": part.set_row[places[starts[walk_starts]]] >= 0,
                "is_held_up": _most(unit_waits, walk_starts).astype(np.bool_),
            },
            unit={
                "walk": np.repeat(np.arange(len(walk_starts)), np.diff(np.append(walk_starts, len(starts)))),
                "domain": key[starts] % 256,
                "zone": np.zeros(len(starts), np.int64) if cell.zone is None else cell.zone[places[starts]],
                "first_vm_row": unit_first,
                "vm_count": sizes,
                "gone_ms": gone_ms,
                "length_ms_min": low,
                "length_ms_max": high,
            },
            loss=loss,
            visit=_visits(cell, places, number),
            gain=gain,
            has_movers=has_movers,
            zones_take_turns=cell.zone is not None,
        )

    @classmethod
    def _domains_of(cls, cell: Cell, places: Ints) -> Ints:
        """The domain each VM is visited with."""
        return np.where(cell.part.set_row[places] >= 0, cell.domains[places], NO_DOMAIN)

    @staticmethod
    def joined(shares: Sequence["Walks"]) -> "Walks":
        """The clusters of one region, from what each of its parts knows of them."""
        clusters = [share._whose for share in shares if not isinstance(share._whose, Part)]
        names = sorted({name for share in clusters for name in share})
        code = {name: place for place, name in enumerate(names)}
        of_share = [np.array([code[name] for name in share], np.int64) for share in clusters]
        walker = [codes[share.walk["name"]] for share, codes in zip(shares, of_share, strict=True)]
        key = np.concatenate(
            [
                codes[share.unit["walk"]] * 256 + share.unit["domain"]
                for share, codes in zip(shares, walker, strict=True)
            ]
        )
        keys, unit_of = np.unique(key, return_inverse=True)
        offsets = np.cumsum([0, *(len(share.unit["walk"]) for share in shares)])
        order = np.argsort(unit_of, kind="stable")
        starts = np.flatnonzero(np.diff(unit_of[order], prepend=-1))

        def folded(name: str, fold: Callable[[Ints, Ints], Ints]) -> Ints:
            return fold(np.concatenate([share.unit[name] for share in shares])[order], starts)

        def renumbered(rows: str, name: str) -> Ints:
            tables = [getattr(share, rows) for share in shares]
            return np.concatenate(
                [
                    unit_of[table["unit"] + offset] if name == "unit" else table[name]
                    for table, offset in zip(tables, offsets[:-1], strict=True)
                ]
            )

        visit = {name: renumbered("visit", name) for name in shares[0].visit}
        by_start = np.lexsort((visit["start_ms"], visit["unit"]))
        visit = {name: values[by_start] for name, values in visit.items()}
        is_new = (np.diff(visit["unit"], prepend=-1) != 0) | (np.diff(visit["start_ms"], prepend=-NEVER_MS) != 0)
        folds = {"unit": _least, "start_ms": _least, "hit_count": _sum}
        visit = {name: folds.get(name, _most)(values, np.flatnonzero(is_new)) for name, values in visit.items()}
        first = np.full(len(names), NEVER_MS)
        for share, codes in zip(shares, walker, strict=True):
            np.minimum.at(first, codes, share.walk["first_vm_row"])
        is_held_up = np.zeros(len(names), np.bool_)
        for share, codes in zip(shares, walker, strict=True):
            np.logical_or.at(is_held_up, codes, share.walk["is_held_up"])
        met, unit_walk = np.unique(keys // 256, return_inverse=True)
        return Walks(
            shares[0].testimony,
            shares[0].campaign,
            shares[0].stage,
            names,
            walk={
                "first_vm_row": first[met],
                "name": met,
                "is_set": np.ones(len(met), np.bool_),
                "is_held_up": is_held_up[met],
            },
            unit={
                "walk": unit_walk,
                "domain": keys % 256,
                "zone": folded("zone", _least),
                "first_vm_row": folded("first_vm_row", _least),
                "vm_count": folded("vm_count", _sum),
                "gone_ms": folded("gone_ms", _most),
                "length_ms_min": folded("length_ms_min", _least),
                "length_ms_max": folded("length_ms_max", _most),
            },
            loss={name: renumbered("loss", name) for name in ("unit", "deleted_ms")},
            has_movers=any(share.has_movers for share in shares),
            zones_take_turns=shares[0].zones_take_turns,
            visit=visit,
        )

    @lazily
    def visit_walk(self) -> Ints:
        return self.unit["walk"][self.visit["unit"]]

    @lazily
    def domain_count(self) -> Ints:
        """Units of each walk."""
        return np.bincount(self.unit["walk"], minlength=len(self.walk["name"]))

    @lazily
    def set_visits(self) -> pl.DataFrame:
        """Visits of sets and clusters: walk_row, domain, start_ms, impact_end_ms, end_ms, end_ms_max; in order."""
        mask = self.walk["is_set"][self.visit_walk]
        columns = {name: self.visit[name][mask] for name in ("start_ms", "impact_end_ms", "end_ms", "end_ms_max")}
        domain = self.unit["domain"][self.visit["unit"][mask]]
        walk_row = self.visit_walk[mask]
        order = _order_of(walk_row, columns["start_ms"])
        frame = pl.DataFrame({"walk_row": walk_row, "domain": domain, **columns})[order]
        is_tie = (frame["walk_row"] == frame["walk_row"].shift(1)) & (frame["start_ms"] == frame["start_ms"].shift(1))
        return frame.sort("walk_row", "start_ms", "domain") if is_tie.any() else frame

    @lazily
    def visit_count(self) -> Ints:
        """Visits of each unit."""
        return np.bincount(self.visit["unit"], minlength=len(self.unit["walk"]))

    @lazily
    def spans(self) -> pl.DataFrame:
        """Walks that were visited: walk_row, first_start_ms, end_ms, end_ms_max, visit_count, is_set."""
        starts = np.flatnonzero(np.diff(self.visit_walk, prepend=-1))
        return pl.DataFrame(
            {
                "walk_row": self.visit_walk[starts],
                "first_start_ms": _least(self.visit["start_ms"], starts),
                "end_ms": _most(self.visit["end_ms"], starts),
                "end_ms_max": _most(self.visit["end_ms_max"], starts),
                "visit_count": np.diff(np.append(starts, len(self.visit_walk))),
                "is_set": self.walk["is_set"][self.visit_walk[starts]],
            }
        )

    @property
    def windowed_spans(self) -> pl.DataFrame:
        """`spans` where there is a window, else none."""
        return self.spans if self._until_ms < NEVER_MS else self.spans.head(0)

    @lazily
    def last_start_ms(self) -> int:
        """The last instant at which a walk may first start."""
        assert self.stage is not None
        assert self.stage.start_ms is not None
        if self.may_wait:
            return NEVER_MS - 1 if self.stage.free_ms is None else self.stage.free_ms
        if not self.stage.is_told and not len(self.visit["unit"]):
            return NEVER_MS - 1  # nobody was hit, and nothing tells when it started
        return self.stage.start_ms + max(self.campaign.spread_ms, 1) - 1

    @property
    def _until_ms(self) -> int:
        """When the scheduled window ends."""
        until_ms = None if self.stage is None else self.stage.until_ms
        return NEVER_MS if until_ms is None else until_ms

    @lazily
    def _last_starts_ms(self) -> Ints:
        """`last_start_ms` of each walk, unless it waits for moves: of a single in a window, that."""
        last_ms = np.where(self.walk["is_held_up"], NEVER_MS - 1, self.last_start_ms)
        if self._until_ms < NEVER_MS:
            last_ms[self._starts_anywhere] = self._until_ms
        return last_ms

    @property
    def _starts_anywhere(self) -> Bools:
        """Walks that in a window start anywhere that lets them end in it: singles, unless zones wait for them."""
        singles: Bools = ~self.walk["is_set"] & (not self.zones_take_turns)
        return singles

    @lazily
    def _left_no_room(self) -> Bools:
        """Units without a visit that may not have fitted into the window, or came after one that may not."""
        none = self.visit_count == 0
        if self._until_ms == NEVER_MS or not none.any():
            return np.zeros(len(none), np.bool_)
        walk_count = len(self.walk["name"])
        assert self.stage is not None
        assert self.stage.start_ms is not None
        from_ms = self._last_starts_ms.copy()
        from_ms[self._starts_anywhere] = self.stage.start_ms
        row = self.spans["walk_row"].to_numpy()
        from_ms[row] = self.spans["end_ms_max"].to_numpy() + self.campaign.gap_ms
        if self.may_wait:  # for others, but not once the last of all is through
            begin_ms, end_ms = self.stage.start_ms, self.stage.end_ms or self.stage.start_ms
            from_ms[:] = max(begin_ms + max(self.campaign.spread_ms, 1) - 1, end_ms + self.campaign.gap_ms)
            from_ms[self._starts_anywhere] = end_ms
        held_ms = np.where(none, np.maximum(self.unit["length_ms_max"], self.campaign.work_ms), 0)
        most_ms = np.zeros(walk_count, np.int64)
        np.maximum.at(most_ms, self.unit["walk"], held_ms)
        is_full: Bools = none & ((from_ms + most_ms) > self._until_ms)[self.unit["walk"]]
        if self.ranks is not None:  # no domain passes another that had no room
            last_rank = np.full(walk_count, -NEVER_MS)
            np.maximum.at(last_rank, self.visit_walk, self.ranks[self.visit["unit"]])
            is_full &= self.ranks > last_rank[self.unit["walk"]]
        may_be: Bools = is_full | (none & self.walk["is_held_up"][self.unit["walk"]])
        return may_be

    @lazily
    def is_excused(self) -> Bools:
        """Units without a visit that had no room, or whose VMs were gone when their turn came, as far as is known."""
        none = self.visit_count == 0
        excused = self._left_no_room.copy()
        suspects = np.flatnonzero(none & (self.unit["gone_ms"] < NEVER_MS))
        if not len(suspects):
            return excused
        walk_count = len(self.walk["name"])
        latest = self._last_starts_ms.copy()
        visited = np.zeros(walk_count, np.bool_)
        spans = {name: self.spans[name].to_numpy() for name in ("walk_row", "end_ms_max")}
        visited[spans["walk_row"]] = True
        latest[spans["walk_row"]] = spans["end_ms_max"] + self.campaign.gap_ms
        latest[self.walk["is_held_up"]] = NEVER_MS - 1
        for unit in suspects.tolist():
            walk = int(self.unit["walk"][unit])
            turn_ms = int(latest[walk])
            if self.ranks is not None and visited[walk]:
                # The order is known: its turn came when the next unit that was visited started.
                rows = slice(*np.searchsorted(self.visit_walk, [walk, walk + 1]))
                later = self.ranks[self.visit["unit"][rows]] > self.ranks[unit]
                turn_ms = int(self.visit["start_ms"][rows][later].min(initial=turn_ms))
            excused[unit] |= self.unit["gone_ms"][unit] <= turn_ms
        return excused

    @lazily
    def ranks(self) -> Ints | None:
        """By what the units of a walk are in order; None where the order is drawn, or not to be known."""
        if self.campaign.order == "sequential":
            return self.unit["domain"]
        if self.has_movers:  # who still moves counts for the size of a domain
            return None
        if self.campaign.order == "largest_first" and (self._is_told or not len(self.loss["unit"])):
            return self.unit["zone"] * 2**40 - self.unit["vm_count"] * 256 + self.unit["domain"]
        return None

    @lazily
    def units(self) -> pl.DataFrame:
        """Units: unit_row, walk_row, domain, vm_count, visit_count, vm_hit_count, expected_count, is_excused.

        `expected_count`: VMs that were there when the unit started.
        """
        first = np.searchsorted(self.visit["unit"], np.arange(len(self.unit["walk"])))
        visited = self.visit_count > 0
        hit_count = np.bincount(self.visit["unit"], weights=self.visit["hit_count"], minlength=len(visited)).astype(
            np.int64
        )
        expected = self.unit["vm_count"]
        if len(self.loss["unit"]) or len(self.gain["unit"]):
            start_ms = np.full(len(visited), -NEVER_MS)
            start_ms[visited] = self.visit["start_ms"][first[visited]]
            gone = self.loss["unit"][self.loss["deleted_ms"] <= start_ms[self.loss["unit"]]]
            to_come = self.gain["unit"][self.gain["created_ms"] > start_ms[self.gain["unit"]]]
            expected = expected - np.bincount(np.concatenate([gone, to_come]), minlength=len(visited))
        return pl.DataFrame(
            {
                "unit_row": np.arange(len(visited)),
                "walk_row": self.unit["walk"],
                "domain": self.unit["domain"],
                "vm_count": self.unit["vm_count"],
                "visit_count": self.visit_count,
                "vm_hit_count": hit_count,
                "expected_count": expected,
                "is_excused": self.is_excused,
            }
        )

    @lazily
    def walk_frame(self) -> pl.DataFrame:
        """Sets and clusters: walk_row, domain_count."""
        rows = np.flatnonzero(self.walk["is_set"])
        return pl.DataFrame({"walk_row": rows, "domain_count": self.domain_count[rows]})

    @lazily
    def constant_spans(self) -> pl.DataFrame:
        """Walks of sets whose VMs can have one length only and stay to the end, and what these must take."""
        held_ms = np.maximum(self.unit["length_ms_max"], self.campaign.work_ms)
        walk_count = len(self.walk["name"])
        is_free = self.unit["length_ms_min"] != self.unit["length_ms_max"]
        is_constant = np.bincount(self.unit["walk"], weights=is_free, minlength=walk_count) == 0
        work_ms = np.zeros(walk_count, np.int64)
        np.add.at(work_ms, self.unit["walk"], held_ms)
        first_loss_ms = np.full(walk_count, NEVER_MS)
        np.minimum.at(first_loss_ms, self.unit["walk"][self.loss["unit"]], self.loss["deleted_ms"])
        first_loss_ms[self.unit["walk"][self.is_excused]] = -NEVER_MS
        row = self.spans["walk_row"].to_numpy()
        return (
            self.spans.with_columns(
                domain_count=pl.Series(self.domain_count[row], dtype=pl.Int64),
                expected_ms=pl.Series(
                    work_ms[row] + (self.domain_count[row] - 1) * self.campaign.gap_ms, dtype=pl.Int64
                ),
                is_constant=pl.Series(is_constant[row]),
                first_loss_ms=pl.Series(first_loss_ms[row], dtype=pl.Int64),
            )
            .filter("is_set", "is_constant", pl.col("first_loss_ms") >= pl.col("end_ms_max"))
            .drop("is_constant", "first_loss_ms", "is_set")
        )

    @lazily
    def last_walk(self) -> tuple[int, ...] | None:
        """The walk here that the summary says ended last.

        First start, end at the least and most, domains visited, time held at the least and most; whether it may wait.
        """
        assert self.stage is not None
        told = self.testimony.last_vm_row(*self.stage.key)
        rows = np.flatnonzero(self.walk["first_vm_row"] == told) if told is not None else _NOBODY
        spans = self.spans.filter(pl.col("walk_row").is_in(pl.Series(rows).implode())) if len(rows) else None
        if spans is None or not len(spans):
            return None
        walk_row, first_ms, end_ms, end_ms_max, count = spans.row(0)[:5]
        held_ms, held_ms_max = (int(held[walk_row]) for held in self.held_ms)
        return first_ms, end_ms, end_ms_max, count, held_ms, held_ms_max, self.may_wait

    @property
    def is_last_held_up(self) -> bool:
        """Whether the walk that is told to have ended last may have waited for moves, or what it waited for have."""
        assert self.stage is not None
        told = self.testimony.last_vm_row(*self.stage.key)
        is_told = self.may_wait | (self.walk["first_vm_row"] == (-1 if told is None else told))
        return self.has_movers or bool((self.walk["is_held_up"] & is_told).any())

    @lazily
    def held_ms(self) -> tuple[Ints, Ints]:
        """How long the units of each walk were held in all, at the least and at the most."""
        held = np.zeros((2, len(self.walk["name"])), np.int64)
        for sums, end in zip(held, ("end_ms", "end_ms_max"), strict=True):
            np.add.at(sums, self.visit_walk, self.visit[end] - self.visit["start_ms"])
        return held[0], held[1]

    def figures(self) -> Figures:
        """These walks' share of the times of their stage."""
        if self.stage is None or self.stage.start_ms is None:
            return {}
        start_ms = self.stage.start_ms
        figures: Figures = {("free_ms", None): (start_ms, start_ms)}
        spans = {name: self.spans[name].to_numpy() for name in ("walk_row", "first_start_ms", "end_ms", "end_ms_max")}
        # When each walk is through with its last unit, be it one that nobody was left of.
        low, high = np.full(len(self.walk["name"]), start_ms), self._last_starts_ms.copy()
        low[spans["walk_row"]], high[spans["walk_row"]] = spans["end_ms"], spans["end_ms_max"]
        if self.is_excused.any():
            gone_ms, walk = self.unit["gone_ms"][self.is_excused], self.unit["walk"][self.is_excused]
            np.maximum.at(low, walk, gone_ms)
            np.maximum.at(high, walk, gone_ms)
        if self._until_ms < NEVER_MS:
            figures["free_ms", None] = (self._until_ms, self._until_ms)
        elif len(low):
            figures["free_ms", None] = (max(start_ms, int(low.max())), max(start_ms, int(high.max())))
        if len(spans["walk_row"]):
            first_ms = spans["first_start_ms"]
            figures["first_start_ms", None] = (int(first_ms.min()),) * 2
            figures["end_ms", None] = (int(spans["end_ms"].max()), int(spans["end_ms_max"].max()))
            row, gaps_ms = spans["walk_row"], (self.spans["visit_count"].to_numpy() - 1) * self.campaign.gap_ms
            waits = self.walk["is_held_up"][row] | self.may_wait
            longest = [
                np.where(waits, held_ms[row] + gaps_ms, spans[end] - first_ms).max()
                for held_ms, end in zip(self.held_ms, ("end_ms", "end_ms_max"), strict=True)
            ]
            figures["longest_ms", None] = (int(longest[0]), int(longest[1]))
        return figures

    def named(self, offenders: pl.DataFrame) -> pl.DataFrame:
        """*offenders* with the user's own names instead of rows and codes."""
        offenders = self._with_ids(offenders)
        if "domain" in offenders.columns:
            number = pl.col("domain") % UPDATE_DOMAIN_COUNT_MAX if self.zones_take_turns else pl.col("domain")
            domain = pl.when(pl.col("domain") != NO_DOMAIN).then(number).alias(self.campaign.walk_by)
            offenders = offenders.with_columns(domain).drop("domain")
        assert self.stage is not None
        return _in_stage(self.testimony, self.stage.key, offenders)

    def _with_ids(self, offenders: pl.DataFrame) -> pl.DataFrame:
        """*offenders* with who walks in each row."""
        if "walk_row" in offenders.columns:
            walk_row = offenders["walk_row"].to_numpy()
            name = self.walk["name"][walk_row]
            if isinstance(self._whose, Part):
                vms = self._whose.vms[name]
                is_set = pl.Series(self.walk["is_set"][walk_row])
                single = pl.select(pl.when(~is_set).then(vms["vm"])).to_series()
                offenders = offenders.with_columns(set=vms["set"], vm=single)
            else:
                offenders = offenders.with_columns(cluster=pl.Series([self._whose[code] for code in name.tolist()]))
        return offenders


def _visits(cell: Cell, places: Ints, number: Ints) -> dict[str, Ints]:
    """The visits of the units whose VMs are at *places*, each in the unit of its *number*."""
    unit_of = np.full(len(cell.part.vms), -1)
    unit_of[places] = number
    unit, start_ms, end_ms = unit_of[cell.place], cell.start_ms, cell.end_ms
    end_ms_max = end_ms
    if cell.is_cut.any():
        end_ms_max = np.where(cell.is_cut, start_ms + cell.times_ms[1][cell.place], end_ms)
    if len(unit) and unit.min() < 0:
        rows = np.flatnonzero(unit >= 0)
        unit, start_ms, end_ms, end_ms_max = unit[rows], start_ms[rows], end_ms[rows], end_ms_max[rows]
    is_same = unit[1:] == unit[:-1]
    if (unit[1:] < unit[:-1]).any() or (is_same & (start_ms[1:] < start_ms[:-1])).any():
        order = np.lexsort((start_ms, unit))
        unit, start_ms, end_ms, end_ms_max = unit[order], start_ms[order], end_ms[order], end_ms_max[order]
        is_same = unit[1:] == unit[:-1]
    first = np.append(0, np.flatnonzero(~is_same | (start_ms[1:] != start_ms[:-1])) + 1) if len(unit) else _NOBODY
    starts = start_ms[first]
    impact_end_ms = _most(end_ms, first)
    held_ms = starts + cell.campaign.work_ms
    return {
        "unit": unit[first],
        "start_ms": starts,
        "impact_end_ms": impact_end_ms,
        "end_ms": np.maximum(impact_end_ms, held_ms),
        "end_ms_max": np.maximum(impact_end_ms if end_ms_max is end_ms else _most(end_ms_max, first), held_ms),
        "hit_count": np.diff(np.append(first, len(unit))),
    }


def _most(values: Ints, starts: Ints) -> Ints:
    """The greatest of each slice of *values*."""
    return np.maximum.reduceat(values, starts) if len(starts) else _NOBODY


def _least(values: Ints, starts: Ints) -> Ints:
    return np.minimum.reduceat(values, starts) if len(starts) else _NOBODY


def _sum(values: Ints, starts: Ints) -> Ints:
    return np.add.reduceat(values, starts) if len(starts) else _NOBODY


@dataclass(frozen=True, slots=True)
class WalkFacts:
    """What rules about stages ask of walks; `key` is the stage's campaign, iteration and region."""

    key: tuple[int, int, int]
    figures: Figures
    last: tuple[int, ...] | None
    is_held_up: bool
    visits: pl.DataFrame | None  # where walks may wait: unit_row, zone, start_ms, end_ms, end_ms_max

    @staticmethod
    def of(walks: Walks) -> "WalkFacts | None":
        if walks.stage is None:
            return None
        visits = None
        if walks.may_wait:
            when = {name: walks.visit[name] for name in ("start_ms", "end_ms", "end_ms_max")}
            unit = walks.visit["unit"]
            visits = pl.DataFrame(
                {"unit_row": walks.unit["first_vm_row"][unit], "zone": walks.unit["zone"][unit], **when}
            )
        return WalkFacts(walks.stage.key, walks.figures(), walks.last_walk, walks.is_last_held_up, visits)


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What is kept of a cell, and of the walks in it, when its part has gone by."""

    key: tuple[int, int, int]
    row_counts: Mapping[str, int]
    figures: Figures
    walks: WalkFacts | None
    reach: "_Reach | None"
    clusters: Walks | None  # its share of those that walk in step
    loads: Loads | None
    room: "_Room | None"  # where customers act

    @staticmethod
    def of(cell: Cell, walks: Walks) -> "CellFacts":
        readable, stage = cell.part.listing.readable, cell.stage
        has_events = "events" in readable
        return CellFacts(
            key=cell.key,
            row_counts={
                table: len(getattr(cell, rows))
                for table, rows in (("events", "_rows"), ("outcomes", "outcomes"))
                if table in readable
            },
            figures=cell.figures() if has_events else {},
            walks=WalkFacts.of(walks) if has_events else None,
            reach=cell.reach if stage is not None and stage.start_ms is None and stage.overdue_count else None,
            clusters=cell.clusters if has_events and stage is not None and cell.campaign.is_in_step else None,
            loads=cell.loads if has_events and stage is not None and cell.campaign.caps else None,
            room=_Room.of(cell)
            if has_events and stage is not None and cell.campaign.self_service and cell.part.host is None
            else None,
        )


@dataclass(frozen=True, slots=True)
class _Room:
    """Requests of customers, and how many VMs each cluster has: what room there was, and who took it.

    requests  cluster, vm_row, iteration, start_ms, is_move; until when a move takes its slot, at least and at most;
              is_barred, may_be_barred: as `Cell.barred` says

    Slots stay over the iterations of a campaign, and its VMs are counted with the first.
    """

    requests: pl.DataFrame
    vm_counts: Mapping[str | None, int]

    @staticmethod
    def of(cell: Cell) -> "_Room":
        asked = cell.campaign.self_service
        assert asked is not None
        column = cell.part.column("cluster")
        count = len(cell.part.vms)
        cluster = pl.repeat(None, count, dtype=pl.String, eager=True) if column is None else column.cast(pl.String)
        result = pl.col("result").cast(pl.String)
        told = cell.requests.filter(pl.col("place") >= 0)
        place, end_ms = told["place"].to_numpy(), told["end_ms"].to_numpy()
        longest_ms = told["start_ms"].to_numpy() + cell.lengths_ms[1][place]
        may_be_cut = np.zeros(len(place), np.bool_)
        if cell.part.lifetimes is not None:
            may_be_cut = end_ms == cell.part.lifetimes[1][place]
        is_attempt = result == "aborted"
        requests = told.select(
            "vm_row", "iteration", "start_ms", is_move=result == "completed", is_failure=is_attempt
        ).with_columns(
            is_barred=pl.Series(cell.barred[0]),
            may_be_barred=pl.Series(cell.barred[1]),
            vm=cell.part.vms["vm"].gather(place).cast(pl.String),
            cluster=cluster.gather(place),
            until_ms=pl.Series(end_ms + asked.recycle_ms),
            until_ms_max=pl.Series(np.where(may_be_cut, longest_ms, end_ms) + asked.recycle_ms),
        )
        counts = (cluster if cell.iteration == FIRST_ITERATION else cluster.head(0)).value_counts(name="count")
        return _Room(requests, dict(zip(counts[cluster.name], counts["count"], strict=True)))

    @staticmethod
    def swept(rooms: Sequence["_Room"], spare: Fraction) -> pl.DataFrame:
        """Each request beside the slots and those taken, by it too.

        It `is_wrong` if these are too many, if it was refused with room and for nothing else, or not though barred.
        """
        requests = pl.concat([room.requests for room in rooms])
        swept = []
        for (cluster,), group in requests.group_by("cluster"):
            slot_count = sum(room.vm_counts.get(cluster, 0) for room in rooms) * spare.numerator // spare.denominator
            moves, at_ms = group.filter("is_move"), group["start_ms"].to_numpy()
            taken = np.searchsorted(moves["start_ms"].sort().to_numpy(), at_ms, side="right")
            most, least = (
                taken - np.searchsorted(moves[name].sort().to_numpy(), at_ms, side="right")
                for name in ("until_ms_max", "until_ms")
            )
            # A failed attempt took no room, but was not refused for want of it.
            before = np.searchsorted(moves["start_ms"].sort().to_numpy(), at_ms, side="left")
            had_none = before - (taken - least) >= slot_count
            is_barred, may_be_barred = group["is_barred"].to_numpy(), group["may_be_barred"].to_numpy()
            is_needless = (most < slot_count) & ~may_be_barred
            is_wrong = np.where(group["is_move"].to_numpy(), (least > slot_count) | is_barred, is_needless)
            is_wrong = np.where(group["is_failure"].to_numpy(), had_none | is_barred, is_wrong)
            swept.append(
                group.select("vm", "vm_row", "iteration", "start_ms", "cluster", "is_move", "is_barred").with_columns(
                    slot_count=pl.lit(slot_count), taken_count=pl.Series(least), is_wrong=pl.Series(is_wrong)
                )
            )
        return pl.concat(swept) if swept else pl.DataFrame(schema=_ROOM_TYPES)


_ROOM_TYPES = {
    "vm": pl.String,
    "vm_row": pl.UInt32,
    "iteration": pl.UInt8,
    "start_ms": pl.Int64,
    "cluster": pl.String,
    "is_move": pl.Boolean,
    "is_barred": pl.Boolean,
    "slot_count": pl.Int32,
    "taken_count": pl.Int64,
    "is_wrong": pl.Boolean,
}


@dataclass(frozen=True, slots=True)
class PartFacts:
    """What is kept of a part when it has gone by.

    set_ranges  of each file, by region: that, its least and greatest set, and its path
    vm_range    the least and the greatest `vm` of all rows: whole numbers or text
    vm_prints   fingerprints of all rows, rising; none where there are too many VMs to keep them
    """

    files: Sequence[File]
    row_count: int
    vm_count: int
    set_count: int
    single_count: int
    set_ranges: Sequence[tuple[int, Any, Any, str]]
    listed: pl.DataFrame  # sets that no_guarantee lists: region, set
    vm_range: tuple[Any, Any]
    vm_prints: npt.NDArray[np.uint64]
    repeated_prints: npt.NDArray[np.uint64]

    @staticmethod
    def of(part: Part) -> "PartFacts":
        prints, vm = np.sort(_fingerprints(part.fleet["vm"]).to_numpy()), _ids_of(part.fleet["vm"])
        key = ["region", "set"]
        return PartFacts(
            files=part.files,
            row_count=part.row_count,
            vm_count=len(part.fleet),
            set_count=part.set_count,
            single_count=len(part.vms) - part.in_set_count,
            set_ranges=part.set_ranges,
            listed=part.testimony.no_guarantee.join(part.sets, on=key, how="semi").select(key),
            vm_range=(vm.min(), vm.max()),
            vm_prints=prints if keeps_prints(part.listing) else prints[:0].copy(),
            repeated_prints=prints[1:][prints[1:] == prints[:-1]],
        )


class InStep:
    """What the parts of a region know of clusters whose sets walk in step, until all of them went by."""

    def __init__(self) -> None:
        self._shares: dict[tuple[int, int, int], list[Walks]] = {}

    def add(self, facts: CellFacts) -> None:
        if facts.clusters is not None:
            self._shares.setdefault(facts.key, []).append(facts.clusters)

    def joined(self) -> Iterator[Walks]:
        """The clusters of each stage."""
        for shares in self._shares.values():
            yield Walks.joined(shares)


_Key = tuple[int, int, int]
"""A stage: campaign, iteration, region."""
_ITERATIONS = frozenset(range(1 << 8))


def _of_stage(key: _Key) -> list[pl.Expr]:
    """The columns that tell of which stage a row is."""
    return [pl.lit(value, dtype).alias(name) for value, (name, dtype) in zip(key, STAGE_TYPES.items(), strict=True)]


_OF_REPLICAS = pl.Schema({"grain": pl.String, "key": pl.String, "figure": pl.String, "value": pl.Float64})
_SEEN_TYPES = {
    **STAGE_TYPES,
    **dict.fromkeys(("unit_row", "start_ms", "seen_end_ms", "seen_end_ms_max"), pl.Int64),
}


class Whole:
    """The run once its parts went by: aggregates per stage, and what no part accounts for."""

    def __init__(self, testimony: Testimony, listing: Listing) -> None:
        self.testimony = testimony
        self._listing = listing
        self._figures: dict[_Key, dict[tuple[str, int | None], tuple[float, float]]] = {}
        self._last_walks: list[tuple[int, ...]] = []
        self._held_up: set[_Key] = set()
        self._visits: dict[_Key, list[pl.DataFrame]] = {}
        self._reach: dict[_Key, list[_Reach]] = {}
        self._loads: dict[_Key, list[Loads]] = {}
        self._rooms: dict[tuple[int, int], list[_Room]] = {}  # of a campaign and region
        self._overloads = [pl.DataFrame(schema=_OVERLOADS)]
        self._load_count = 0
        self._set_ranges: list[tuple[int, Any, Any, str]] = []
        self._seen = dict.fromkeys(("events", "outcomes"), 0)
        self._found = dict.fromkeys(("vms", "sets", "singles"), 0)
        self.listed_left = testimony.no_guarantee
        self.fleet_files = listing.tables["fleet"]
        self._ids = _Ids(listing)

    @property
    def summary(self) -> pl.DataFrame:
        return self.testimony.summary

    @property
    def stages(self) -> pl.DataFrame:
        return self.testimony.stages

    @property
    def calendar(self) -> pl.DataFrame:
        return self.testimony.calendar.frame

    @property
    def rescheduled(self) -> pl.DataFrame:
        """Stages of `calendar` that are about those whom earlier ones left."""
        return self.calendar.filter(pl.col("iteration") > FIRST_ITERATION)

    @lazily
    def fleet_digest(self) -> pl.DataFrame:
        """The manifest's digest of the fleet beside that of the parts' rows, as their metadata tell it."""
        rows_digests = "".join(file.rows_digest for file in self.fleet_files if file.rows)
        try:
            found = hashlib.sha256(bytes.fromhex(rows_digests)).hexdigest()
        except ValueError:
            found = "none"
        return pl.DataFrame({"expected": [str(self._listing.manifest["fleet_digest"])], "found": [found]})

    @lazily
    def repeated_vms(self) -> pl.DataFrame:
        """Rows of the fleet whose `vm` others have too: vm, vm_row, path. Exact where two fingerprints agree."""
        suspects = pl.Series(self._ids.repeated_prints(), dtype=pl.UInt64)
        frames = [pl.DataFrame(schema={"vm": pl.String, "vm_row": pl.UInt32, "path": pl.String})]
        for file in self.fleet_files if len(suspects) else ():
            rows = self._listing.read(file, ["vm", "vm_row"])
            rows = rows.filter(_fingerprints(rows["vm"]).is_in(suspects.implode()))
            frames.append(rows.select(pl.col("vm").cast(pl.String), "vm_row", path=pl.lit(file.path)))
        return pl.concat(frames).filter(pl.col("vm").is_duplicated())

    def add(self, part: "PartFacts") -> None:
        """Keep of *part* what rules about the whole run ask for."""
        self._ids.add(part)
        self._found["vms"] += part.vm_count
        self._found["sets"] += part.set_count
        self._found["singles"] += part.single_count
        self._set_ranges += part.set_ranges
        self.listed_left = self.listed_left.join(part.listed, on=["region", "set"], how="anti")

    def add_cell(self, facts: "CellFacts") -> None:
        """Keep of a cell, and of the walks in it, what rules about stages ask for."""
        for table, count in facts.row_counts.items():
            self._seen[table] += count
        self._fold(facts.key, facts.figures)
        if facts.walks is not None:
            self.add_walks(facts.walks)
        if facts.reach is not None:
            self._reach.setdefault(facts.key, []).append(facts.reach)
        if facts.room is not None:
            self._rooms.setdefault(facts.key[::2], []).append(facts.room)
        if facts.loads is not None:
            if any(key[2] != facts.key[2] for key in self._loads):
                self._sweep_loads()  # the region before went by
            self._loads.setdefault(facts.key, []).append(facts.loads)

    def _sweep_loads(self) -> None:
        for key, loads in self._loads.items():
            swept = Loads.joined(self.testimony.campaigns[key[0]], loads)
            self._load_count += swept.unit_count
            if swept.unit_count:
                self._fold(key, {("cap_bound_ms", None): swept.bound_ms})
            self._overloads.append(swept.overloads.with_columns(_of_stage(key)).select(list(_OVERLOADS)))
        self._loads.clear()

    @property
    def capped_units(self) -> range:
        """As long as there are units that caps count."""
        self._sweep_loads()
        return range(self._load_count)

    @lazily
    def overloads(self) -> pl.DataFrame:
        """Instants from which more was at work than a cap allows: STAGE, per, name, at_ms, count, limit."""
        self._sweep_loads()
        return pl.concat(self._overloads)

    def add_walks(self, facts: "WalkFacts") -> None:
        """Keep of walks what rules about stages ask for."""
        self._fold(facts.key, facts.figures)
        if facts.is_held_up:
            self._held_up.add(facts.key)
        if facts.last is not None:
            self._last_walks.append((*facts.key, *facts.last))
        if facts.visits is not None:
            self._visits.setdefault(facts.key, []).append(facts.visits)

    def _fold(self, key: "_Key", figures: Figures) -> None:
        """Fold *figures* of a part into those of its stage."""
        told = self._figures.setdefault(key, {})
        for figure, (low, high) in figures.items():
            if figure not in told:
                told[figure] = low, high
            elif figure[0] in _MOST:
                told[figure] = max(told[figure][0], low), max(told[figure][1], high)
            elif figure[0] == "first_start_ms":
                told[figure] = min(told[figure][0], low), min(told[figure][1], high)
            else:
                told[figure] = told[figure][0] + low, told[figure][1] + high

    @lazily
    def figures(self) -> pl.DataFrame:
        """Figures of each stage, folded over the parts: FIGURE_TYPES and value_max, up to which a value may be."""
        self._sweep_loads()
        rows = [
            # As the summary has it: the exact sum, rounded once.
            (*key, figure, bin_start_ms, float(low), float(high))
            for key, figures in self._figures.items()
            for (figure, bin_start_ms), (low, high) in figures.items()
        ]
        return pl.DataFrame(rows, schema={**FIGURE_TYPES, "value_max": pl.Float64}, orient="row")

    @lazily
    def last_walks(self) -> pl.DataFrame:
        """What the summary says of the walk that ended last in each stage, and that walk, null where it is none."""
        names = ["first_start_ms", "end_ms_walk", "end_ms_max", "domain_count", "held_ms", "held_ms_max"]
        types = {**STAGE_TYPES, **dict.fromkeys(names, pl.Int64), "may_wait": pl.Boolean}
        walks = pl.DataFrame(self._last_walks, schema=types, orient="row")
        told = self.testimony.of_campaign(self.testimony.last_walks, "gap_ms", "spread_ms", "scheduled_ms")
        # Which of its spans a walk spent on waiting for moves is not told, nor which walk that was.
        held_up = pl.DataFrame(list(self._held_up), schema=STAGE_TYPES, orient="row")
        told = told.join(held_up, on=STAGE, how="anti")
        return told.join(walks, on=STAGE, how="left").join(self.chains, on=STAGE, how="left")

    @lazily
    def steps(self) -> pl.DataFrame:
        """Units that could wait for others, as `steps` and as the events tell them.

        STAGE, unit_row, start_ms; end_ms, waited_for, waited_row, waited_ms, null where `steps` has no such row;
        seen_end_ms, seen_end_ms_max, null where nobody was hit then; before_end_ms of the unit waited for.
        """
        told = self.testimony.steps(self._listing)
        seen = [
            each.with_columns(_of_stage(key)).rename({name: f"seen_{name}" for name in ("end_ms", "end_ms_max")})
            for key, visits in self._visits.items()
            for each in visits
        ]
        key = [*STAGE, "unit_row", "start_ms"]
        none = pl.DataFrame(schema=_SEEN_TYPES)
        both = told.join(
            pl.concat([none, *seen], how="diagonal_relaxed").select(none.columns), on=key, how="full", coalesce=True
        )
        ends = told.select(*STAGE, waited_row="unit_row", before_end_ms="end_ms")
        return both.join(ends, on=[*STAGE, "waited_row"], how="left")

    @lazily
    def zone_spans(self) -> pl.DataFrame:
        """Work in each zone where these take turns: STAGE, zone (its place by name), first_start_ms, last_end_ms."""
        none = pl.DataFrame(
            schema={**STAGE_TYPES, "zone": pl.Int64, "first_start_ms": pl.Int64, "last_end_ms": pl.Int64}
        )
        spans = [
            pl.concat(visits)
            .group_by("zone")
            .agg(first_start_ms=pl.col("start_ms").min(), last_end_ms=pl.col("end_ms").max())
            .with_columns(_of_stage(key))
            .select(none.columns)
            for key, visits in self._visits.items()
            if self.testimony.campaigns[key[0]].zones_take_turns
        ]
        return pl.concat([none, *spans]).sort(*STAGE, "zone")

    @lazily
    def chains(self) -> pl.DataFrame:
        """The units that led to each stage's end, by `steps`: STAGE, unit_count, gap_count, cap_ms, earliest_ms.

        The first of them might have started from `earliest_ms` on; `cap_ms` is spent until others had room under a cap.
        """
        rows = []
        for stage, steps in self.testimony.steps(self._listing).group_by(STAGE):
            unit_row, start_ms, end_ms = (steps[name].to_list() for name in ("unit_row", "start_ms", "end_ms"))
            waited_row, waited_for = steps["waited_row"].to_list(), steps["waited_for"].to_list()
            place_of = {row: place for place, row in enumerate(unit_row)}
            last = max(range(len(steps)), key=lambda place: (end_ms[place], -unit_row[place]))
            chain, met = [last], {last}
            while (before := place_of.get(waited_row[chain[-1]])) is not None and before not in met:
                chain.append(before)
                met.add(before)
            hops = list(pairwise(chain))
            cap_ms = sum(start_ms[after] - start_ms[before] for after, before in hops if waited_for[after] == "cap")
            cap_ms += steps["waited_ms"][chain[-1]]
            gap_count = sum(waited_for[after] == "gap" for after, _ in hops)
            first_ms = start_ms[chain[-1]] - steps["waited_ms"][chain[-1]]
            rows.append((*stage, len(chain), gap_count, cap_ms, first_ms))
        names = ["unit_count", "gap_count", "cap_ms", "earliest_ms"]
        return pl.DataFrame(rows, schema={**STAGE_TYPES, **dict.fromkeys(names, pl.Int64)}, orient="row")

    def figure(self, name: str) -> pl.DataFrame:
        """One single-valued figure as a column of its name, a row a stage."""
        return self.figures.filter(pl.col("figure") == name).select(*STAGE, pl.col("value").cast(pl.Int64).alias(name))

    @lazily
    def stage_meetings(self) -> pl.DataFrame:
        """Two stages that exclude each other, the earlier first, by the times the summary tells."""
        times = self.testimony.stage_times.filter(pl.col("start_ms").is_not_null())
        return self._meetings(times.select(*STAGE, "start_ms", end_ms=pl.coalesce("free_ms", "end_ms", "start_ms")))

    @property
    def windowed(self) -> pl.DataFrame:
        """Rows of `stages` with windows."""
        return self.testimony.stages.filter(pl.any_horizontal(pl.col(name).is_not_null() for name in WINDOWS))

    @lazily
    def window_meetings(self) -> pl.DataFrame:
        """Two scheduled windows that exclude each other, the earlier first."""
        opens = self.windowed.drop_nulls(["scheduled_start_ms", "scheduled_end_ms"])
        return self._meetings(opens.select(*STAGE, start_ms="scheduled_start_ms", end_ms="scheduled_end_ms"))

    @lazily
    def event_meetings(self) -> pl.DataFrame:
        """The same by first and last impacts."""
        times = self.figure("first_start_ms").join(self.figure("end_ms"), on=STAGE)
        return self._meetings(times.rename({"first_start_ms": "start_ms"}))

    def _meetings(self, spans: pl.DataFrame) -> pl.DataFrame:
        spans = self.testimony.of_campaign(spans, "lag_ms", "excludes")
        spans = spans.sort("start_ms", "end_ms", *STAGE).with_row_index("place")
        regions = spans.select("region", neighbour="region").unique()
        near = pl.concat([regions, self.testimony.neighbours]).unique()
        is_excluded = (pl.col("region") == pl.col("neighbour")) | (pl.col("excludes") & pl.col("excludes_other"))
        return (
            spans.join(near, on="region")
            .join(spans, left_on="neighbour", right_on="region", suffix="_other")
            .filter(pl.col("place") < pl.col("place_other"), is_excluded)
            .rename({"neighbour": "region_other"})
            .drop("place", "place_other", "excludes", "excludes_other")
        )

    @lazily
    def bounds(self) -> pl.DataFrame:
        """What each campaign's length cannot be below: its longest walk, its work over a cap, and a pair of them."""
        walks = self.figure("longest_ms").drop("iteration").rename({"longest_ms": "bound_ms"})
        caps = self.figure("cap_bound_ms").drop("iteration").rename({"cap_bound_ms": "bound_ms"})
        longest = pl.concat([walks, caps]).group_by("campaign", "region").agg(pl.col("bound_ms").max())
        told = [(walks, "longest walk"), (caps, "work over a cap")]
        no_other = pl.lit(None, pl.UInt16)
        one = pl.concat([each.with_columns(bound=pl.lit(word), region_other=no_other) for each, word in told])
        edges = longest.join(self.testimony.neighbours.rename({"neighbour": "region_other"}), on="region")
        two = (
            self.testimony.of_campaign(edges, "lag_ms", "excludes")
            .filter("excludes")
            .join(
                longest,
                left_on=["campaign", "region_other"],
                right_on=["campaign", "region"],
                suffix="_other",
            )
            .filter(pl.col("region") < pl.col("region_other"))
            .with_columns(
                bound_ms=pl.col("bound_ms") + pl.col("bound_ms_other") + pl.col("lag_ms"),
                bound=pl.lit("longest pair"),
            )
            .select(one.columns)
        )
        lengths = self.testimony.stage_times.group_by("campaign").agg(
            length_ms=pl.col("end_ms").max() - pl.col("start_ms").min()
        )
        return pl.concat([one, two]).join(lengths, on="campaign", how="left")

    @lazily
    def room(self) -> pl.DataFrame:
        """Requests of customers beside the room there was for them."""
        frames = [pl.DataFrame(schema={**STAGE_TYPES, **_ROOM_TYPES})]
        for (place, region), rooms in self._rooms.items():
            asked = self.testimony.campaigns[place].self_service
            assert asked is not None
            swept = _Room.swept(rooms, asked.spare)
            swept = swept.with_columns(campaign=pl.lit(place, pl.UInt16), region=pl.lit(region, pl.UInt16))
            frames.append(swept.cast(frames[0].schema).select(frames[0].columns))
        return pl.concat(frames)

    @lazily
    def overdue(self) -> pl.DataFrame:
        """Stages that never started for want of room, and when they would have ended at the latest."""
        rows = []
        for key, reaches in self._reach.items():
            stage = self.testimony.calendar.stages[key]
            given = stage.campaign
            if given.scheduled_ms is not None:
                ends_ms = self.testimony.calendar.first_ms(stage) + given.scheduled_ms
                rows.append((*key, stage.judged_ms, ends_ms))
                continue
            in_step = frozenset[int]().union(*(reach.cluster_domains for reach in reaches))
            domain_count = max(len(in_step), *(reach.domain_count for reach in reaches))
            if given.caps:  # then all may have to go one after the other
                domain_count = sum(reach.unit_count for reach in reaches)
            held_ms = max(given.work_ms, *(reach.length_ms_max for reach in reaches))
            ends_ms = max(stage.tries_ms[-1], *(reach.from_ms for reach in reaches))
            if domain_count:  # else nobody was left by then
                ends_ms += given.spread_ms + domain_count * held_ms + (domain_count - 1) * given.gap_ms
            rows.append((*key, stage.judged_ms, ends_ms))
        types = {**STAGE_TYPES, "first_ms": pl.Int64, "end_ms_max": pl.Int64}
        return pl.DataFrame(rows, schema=types, orient="row")

    @lazily
    def applications(self) -> pl.DataFrame:
        """Figures of applications, over all regions, of each campaign: FIGURE_TYPES."""
        quorum = self.testimony.quorum
        rows = []
        is_told = any("application" in file.columns for file in self.fleet_files)
        for campaign in self.testimony.campaigns if is_told else ():
            out_ms = lost_ms = 0
            for states in self._application_states(campaign):
                out_ms += states.out_ms
                lost_ms += states.quorum_lost_ms(quorum) if quorum is not None else 0
            rows.append((campaign.place, "application_out_ms", out_ms))
            if quorum is not None and quorum.by == "application":
                rows.append((campaign.place, "quorum_lost_ms", lost_ms))
        everywhere = self.testimony.region_names.code(EVERYWHERE)
        told = [(place, FIRST_ITERATION, everywhere, figure, None, float(value)) for place, figure, value in rows]
        return pl.DataFrame(told, schema=FIGURE_TYPES, orient="row")

    def _application_states(self, campaign: Campaign) -> Iterator[_States]:
        """How many VMs of each application were out and living under *campaign*, so many applications at a time."""
        files = [file for file in self._listing.tables["events"] if campaign.name in self._listing.campaigns(file)]
        share_count = 1 + sum(file.rows for file in files) // _SWEPT_AT_ONCE
        for share in range(share_count if files else 0):
            members, impacts = [], []
            for file in self.fleet_files:
                part = Part(self.testimony, self._listing, [file])
                if (column := part.column("application")) is None:
                    continue
                # Equal names have equal prints; that two others do is not to be expected.
                prints = column.cast(pl.String).hash().to_numpy()
                is_here = column.is_not_null().to_numpy() & (prints % np.uint64(share_count) == share)
                lifetimes = part.lifetimes or (np.full(len(prints), -NEVER_MS), np.full(len(prints), NEVER_MS))
                members.append((prints[is_here], *(each[is_here] for each in lifetimes)))
                cell = Cell(part, campaign, None)
                felt = cell.felt
                rows = np.flatnonzero(is_here[felt.place])
                impacts.append((prints[felt.place[rows]], felt.start_ms[rows], felt.end_ms[rows]))
            if any(len(happened) for happened, *_ in impacts):
                yield self._applications_swept(members, impacts)

    @staticmethod
    def _applications_swept(
        members: Sequence[tuple[Any, Ints, Ints]], impacts: Sequence[tuple[Any, Ints, Ints]]
    ) -> _States:
        prints, created_ms, deleted_ms = (np.concatenate(arrays) for arrays in zip(*members, strict=True))
        happened, start_ms, end_ms = (np.concatenate(arrays) for arrays in zip(*impacts, strict=True))
        known, group = np.unique(happened, return_inverse=True)
        member = np.minimum(np.searchsorted(known, prints), len(known) - 1)
        rows = np.flatnonzero(known[member] == prints)
        lives = created_ms[rows], deleted_ms[rows]
        is_always = bool((lives[0] == -NEVER_MS).all() and (lives[1] == NEVER_MS).all())
        ones, one_each = np.ones(len(group), np.int64), np.ones(len(rows), np.int64)
        lifetimes = None if is_always else lives
        return _States.of((group, start_ms, end_ms), [ones], (member[rows], lifetimes), [one_each], len(known))

    @lazily
    def outages(self) -> pl.DataFrame:
        """Figures of sets by stage, and of applications by campaign."""
        of_sets = self.figures.filter(pl.col("figure").is_in(OUTAGES))
        return pl.concat([of_sets, self.applications.with_columns(value_max="value")])

    @lazily
    def fleet_ranges(self) -> pl.DataFrame:
        """Files of the fleet in vm_row order, with their range."""
        return pl.DataFrame(
            [(file.path, file.rows, file.vm_row_min, file.vm_row_max) for file in self.fleet_files],
            schema={"path": pl.String, "rows": pl.Int64, "low": pl.Int64, "high": pl.Int64},
            orient="row",
        )

    @lazily
    def divided_sets(self) -> pl.DataFrame:
        """Sets that two parts of the fleet have VMs of; looked for where the ranges of their sets overlap."""
        frames = [pl.DataFrame(schema={"region": pl.UInt16, "set": self.testimony.identity, "path": pl.String})]
        ranges = sorted(self._set_ranges, key=lambda item: (item[0], item[1]))
        for place, (region, _, high, path) in enumerate(ranges):
            for other_region, other_low, _, other_path in ranges[place + 1 :]:
                if other_region != region or other_low > high:
                    break
                shared = self._sets_in(path).join(self._sets_in(other_path), on="set", how="semi")
                frames.append(
                    shared.select(region=pl.lit(region, pl.UInt16), set="set", path=pl.lit(f"{path}, {other_path}"))
                )
        return pl.concat(frames)

    def _sets_in(self, path: str) -> pl.DataFrame:
        file = next(file for file in self.fleet_files if file.path == path)
        return Part(self.testimony, self._listing, [file]).sets.select("set")

    def _strays(self, table: str) -> pl.DataFrame:
        """Rows of *table* of no campaign, or whose `vm_row` lies in no part of the fleet: path, campaign, vm_row."""
        files = self._listing.tables[table]
        frames = [pl.DataFrame(schema={"path": pl.String, "campaign": pl.UInt16, "vm_row": pl.UInt32})]
        if sum(file.rows for file in files) != self._seen[table]:
            inside = [pl.col("vm_row").is_between(file.vm_row_min, file.vm_row_max) for file in self.fleet_files]
            is_seen = pl.any_horizontal(*inside, False) & (pl.col("campaign") < len(self.testimony.campaigns))
            for file in files:
                rows = self._listing.read(file, ["campaign", "vm_row"])
                rows = rows.with_columns(self.testimony.campaign_names.encode(rows["campaign"]), path=pl.lit(file.path))
                frames.append(rows.filter(~is_seen).select(frames[0].columns))
        return pl.concat(frames).with_columns(
            problem=pl.when(pl.col("campaign") < len(self.testimony.campaigns))
            .then(pl.lit("no such VM"))
            .otherwise(pl.lit("no such campaign"))
        )

    @lazily
    def stray_events(self) -> pl.DataFrame:
        return self._strays("events")

    @lazily
    def stray_outcomes(self) -> pl.DataFrame:
        return self._strays("outcomes")

    @lazily
    def counts(self) -> pl.DataFrame:
        """The manifest's counts beside those of the files: figure, expected, value."""
        found = self._found | {
            table: sum(file.rows for file in self._listing.tables[table]) for table in ("events", "outcomes", "stages")
        }
        manifest = self._listing.manifest
        claimed = manifest["counts"]
        if "replicas" in manifest:
            found["replicas"], claimed = (
                len(self._listing.tables["replicas"]),
                claimed | {"replicas": manifest["replicas"]},
            )
        return pl.DataFrame(
            [(name, expected, claimed.get(name)) for name, expected in found.items()],
            schema={"figure": pl.String, "expected": pl.Int64, "value": pl.Int64},
            orient="row",
        )

    @lazily
    def first_replica(self) -> pl.DataFrame:
        """Figures that the first replica, which is the run, and `summary` both tell: key, figure, value, expected."""
        first = [file for file in self._listing.tables["replicas"] if "/replica=00000/" in f"/{file.path}"]
        told = [self._listing.read(file, ["grain", "key", "figure", "value"]) for file in first]
        found = pl.concat([pl.DataFrame(schema=_OF_REPLICAS), *(each.cast(_OF_REPLICAS) for each in told)])
        named = {code: campaign.name for code, campaign in enumerate(self.testimony.campaigns)}
        summed = pl.concat([self.summary.filter(pl.col("bin_start_ms").is_null()), self.stages_told])
        ends = summed.filter(pl.col("figure") == "last_end_ms").select(*STAGE, end_ms="value")
        starts = summed.filter(pl.col("figure") == "first_start_ms").select(*STAGE, start_ms="value").unique()
        length = {"figure": pl.lit("length_ms"), "bin_start_ms": pl.lit(None, pl.Int64)}
        lengths = ends.join(starts, on=STAGE).select(*STAGE, **length, value=pl.col("end_ms") - pl.col("start_ms"))
        summed = pl.concat([summed, lengths.select(summed.columns)]).unique()
        campaign = pl.col("campaign").replace_strict(named, return_dtype=pl.String)
        key = pl.concat_str(campaign, "iteration", self.testimony.region_names.decode("region"), separator="/")
        expected = summed.select("figure", key=key, expected="value")
        return found.filter(pl.col("grain") == "stage").drop("grain").join(expected, on=["key", "figure"])

    @lazily
    def stages_told(self) -> pl.DataFrame:
        """What `stages` says, one row a stage and figure: FIGURE_TYPES."""
        stages = self.testimony.stages
        told = [name for name in stages.columns if name.endswith("_count") or name in ("first_start_ms", "last_end_ms")]
        return stages.unpivot(on=told, index=STAGE, variable_name="figure").select(
            *STAGE, "figure", pl.lit(None, pl.Int64).alias("bin_start_ms"), pl.col("value").cast(pl.Float64)
        )


def keeps_prints(listing: Listing) -> bool:
    """Whether the fingerprints of all VMs are kept, as there are few."""
    return sum(file.rows for file in listing.tables["fleet"]) <= _PRINTS_AT_ONCE


def _ids_of(vm: pl.Series) -> pl.Series:
    """*vm* as whole numbers or text."""
    return vm if vm.dtype == pl.Int64 else vm.cast(pl.String)


class _Ids:
    """The ids of VMs, by fingerprints: which of them are there twice, be it in two parts.

    Parts whose ids lie in ranges that meet no other's need no comparison. Of a fleet that is larger than
    _PRINTS_AT_ONCE the others are read once more, so many prints at a time: memory does not grow with the fleet.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._keeps_prints = keeps_prints(listing)
        # Least and greatest id, and place in what follows; numbers and text, which meet nowhere, apart.
        self._ranges: dict[type, list[tuple[Any, Any, int]]] = {}
        self._files: list[Sequence[File]] = []
        self._prints: list[npt.NDArray[np.uint64]] = []
        self._repeated: list[npt.NDArray[np.uint64]] = []

    def add(self, part: "PartFacts") -> None:
        """Note the ids of *part*."""
        if part.vm_count:
            low, high = part.vm_range
            self._ranges.setdefault(type(low), []).append((low, high, len(self._files)))
            self._files.append(part.files)
            self._prints.append(part.vm_prints)
            self._repeated.append(part.repeated_prints)

    def repeated_prints(self) -> npt.NDArray[np.uint64]:
        """Fingerprints that more than one VM has."""
        meet = self._meeting()
        row_count = sum(file.rows for place in meet for file in self._files[place])
        share_count = np.uint64(1 if self._keeps_prints else 1 + row_count // _PRINTS_AT_ONCE)
        found = list(self._repeated)
        for share in range(int(share_count)) if meet else ():
            prints = np.concatenate([self._share(place, share, share_count) for place in meet])
            prints.sort()
            found.append(prints[1:][prints[1:] == prints[:-1]])
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found]))

    def _meeting(self) -> list[int]:
        """Parts whose range of ids meets that of another."""
        meet: set[int] = set()
        for ranges in self._ranges.values():
            (_, highest, of), *others = sorted(ranges)
            for low, high, place in others:
                if low <= highest:
                    meet |= {of, place}
                if high > highest:
                    highest, of = high, place
        return sorted(meet)

    def _share(self, place: int, share: int, share_count: np.uint64) -> npt.NDArray[np.uint64]:
        if self._keeps_prints:
            return self._prints[place]
        columns = [self._listing.read(file, ["vm"])["vm"] for file in self._files[place]]
        prints = np.concatenate([_fingerprints(vm).to_numpy() for vm in columns])
        of_share: npt.NDArray[np.uint64] = prints[prints % share_count == np.uint64(share)]
        return of_share


def _fingerprints(vm: pl.Series) -> pl.Series:
    """64 bits of each VM, the same in every part: those of a whole number are the number itself."""
    return vm.reinterpret(signed=False) if vm.dtype == pl.Int64 else vm.cast(pl.String).hash()
