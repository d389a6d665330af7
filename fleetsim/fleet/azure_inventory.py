"""A fleet of one's own from an inventory: what the Azure API and its command line list, or any JSON or CSV.

Several pages may tell of one VM: the API lists VMs in one call, and in another their status, which alone knows the
domains and whether a VM runs. What is told is joined by id, blind to case as the API is, whatever the order of pages.
Shapes: "Virtual Machines - List All" (also with statusOnly=true) and "Virtual Machine Scale Set VMs - List" of
Microsoft.Compute, API version 2024-07-01; `az vm list`, `az vmss list-instances`, whose objects have no `properties`.
"""

import gc
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from fleetsim.errors import InputError, nearest, nearest_name
from fleetsim.fleet.azure_trace import Imported
from fleetsim.fleet.pages import Page, read_pages
from fleetsim.fleet.read import INVENTED_KEY, Findings
from fleetsim.progress import Progress
from fleetsim.regions import HOW_TO_LIST, Relation, load_relation
from fleetsim.schema import (
    FAULT_DOMAIN_COUNT_DEFAULT,
    FLEET,
    PREPARED,
    UPDATE_DOMAIN_COUNT_DEFAULT,
    UPDATE_DOMAIN_COUNT_MAX,
)
from fleetsim.sizes import catalogue
from fleetsim.tables import arrow_field, arrow_type, check_new, folder_above, provenance_of, write_parquet

PATHS: Mapping[str, tuple[str, ...]] = {
    "vm": ("id",),
    "region": ("location",),
    "set": ("availabilitySet.id", "virtualMachineScaleSet.id"),
    "update_domain": ("instanceView.platformUpdateDomain",),
    "fault_domain": ("instanceView.platformFaultDomain",),
    "zone": ("zones",),
    "size": ("hardwareProfile.vmSize", "sku.name"),
    "placement_group": ("instanceView.placementGroupId",),
}
"""Where columns are looked for, in an object or in its `properties`; the first path that leads to a value holds."""

_IN_SCALE_SET = re.compile(r"(.*/virtualmachinescalesets/[^/]+)/virtualmachines/[^/]+")
_IN_SUBSCRIPTION = re.compile(r"/subscriptions/([^/]+)/.*")
_VM_TYPES = ("microsoft.compute/virtualmachines", "microsoft.compute/virtualmachinescalesets/virtualmachines")
_KIND_OF = {"availabilitysets": "availability_set", "virtualmachinescalesets": "scale_set"}
_POWER = "powerstate/"
# A stopped VM keeps its host and is billed; a deallocated one has given it back, so nothing done to hosts hits it
# (Azure, "States and billing status of Virtual Machines", 2024).
_OFF_HOST = "deallocated"
_DOMAIN_COUNTS = {"update_domain": UPDATE_DOMAIN_COUNT_DEFAULT, "fault_domain": FAULT_DOMAIN_COUNT_DEFAULT}
_FROM_SIZE = ("vcpus", "memory_gib", "temp_disk_gib")
_ITEMS_LOOKED_INTO = 1000  # of a page, for the paths it might have been asked for
_WORDS_TOLD = 5
_MISSPELT = 0.8  # as near to a known column is not a column of one's own, mostly

# A path as it is followed: each step, and all that is left from it on, since names of tags may have dots.
_Steps = tuple[tuple[str, str], ...]


def import_inventory(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    map: Mapping[str, str] | None = None,  # noqa: A002
    *,
    pairs: str | Path | None = None,
    keep_deallocated: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Write the VMs that *sources* tell of as the new Parquet file *out*, a row a VM in order of id.

    sources           files, or folders of them: pages of the API, output of `az`, any JSON, CSV with a header
    map               column -> dotted path into an object (CSV: name of its column), instead of `PATHS`; columns
                      fleetsim does not know are kept as text. `power_state` is what tells deallocated VMs
    pairs             CSV of region pairs instead of the built-in one: the regions that are known
    keep_deallocated  VMs that are on no host are left out unless this is set

    `vm` and `set` are resource ids in lower case, so that sets of one name in two resource groups stay two. A scale
    set that tells several placement groups is a set for each of them. Where a set tells the domains of some of its
    VMs, the others go, in order of id, to the emptiest domain, the lowest of several.

    Raises `InputError` with all that is wrong; nothing is written then.
    """
    out, map = Path(out), dict(map or {})  # noqa: A001
    files = [Path(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    problems: list[str] = []
    for judge in (lambda: check_new(out), lambda: folder_above(out), lambda: _check_map(map)):
        try:
            judge()
        except InputError as error:
            problems += error.problems
    relation = load_relation(pairs)
    if problems:
        raise InputError(problems)

    inventory = _Inventory(map)
    with _without_gc():
        for page in read_pages(files, problems):
            inventory.add(page)
            if progress is not None:
                progress("read", inventory.item_count, inventory.item_count)
    if not problems:  # a path may lead to something in what could not be read
        problems += _lost_paths(inventory, map, files)
    if inventory.hits["vm"] or "vm" not in map:  # else one path is wrong, not every object
        inventory.findings.merge(inventory.nameless)
    fleet = _Fleet(inventory, relation, keep_deallocated)
    problems += inventory.findings.sentences()
    if not (problems or fleet.rows):
        problems.append(fleet.emptiness(files))
    if problems:
        raise InputError(problems)
    write_parquet(out, fleet.table())
    return Imported(out, fleet.counts(), tuple(fleet.invented), tuple(fleet.notes()), tuple(inventory.warnings()))


def _check_map(asked: Mapping[str, str]) -> None:
    problems = []
    for column, path in asked.items():
        if not column or not path:
            problems.append(f"map: must be COLUMN=PATH, got '{column}={path}'")
        elif column in PREPARED.names():
            problems.append(f"map: column must not be one that fleetsim makes, got '{column}'; call it otherwise")
    if problems:
        raise InputError(problems)


class _Inventory:
    """VMs by id, a row each: `values` of column by row, as told, and where they were told."""

    def __init__(self, asked: Mapping[str, str]) -> None:
        paths = {**PATHS, **{column: (path,) for column, path in asked.items()}}
        self.findings = Findings()
        self.nameless = Findings()  # objects without an id
        self.hits: Counter[str] = Counter()  # values by column, to know paths that lead nowhere
        self.item_count = 0
        self.other_count = 0  # resources that are no VMs
        self.rows: dict[str, int] = {}
        self.values: dict[str, list[Any]] = {
            column: [] for column in (*paths, "set_kind", "subscription", "power_state") if column != "vm"
        }
        self.has_model: list[bool] = []
        self.has_status: list[bool] = []
        self.places: list[str] = []
        self._asked = asked
        self._paths = {column: [_steps(path) for path in found] for column, found in paths.items()}
        self._converters = {column: _converter(column) for column in ("vm", *self.values)}
        self._told: dict[tuple[int, bool, bool], str] = {}
        self._viewed: set[int] = set()  # rows whose instance view was met
        self._links: dict[tuple[str, bool], list[Page]] = {}
        self._ended: set[tuple[str, bool]] = set()
        self._empty_end_count = 0

    def add(self, page: Page) -> None:
        """Take in what *page* tells of each VM."""
        key = None
        for number, item in enumerate(page.items):
            self.item_count += 1
            if not isinstance(item, dict):
                told = f"{page.place(number)}: must be an object, got '{item}'"
                self.findings.add("object", page.name, told)
            elif _is_other(item):
                self.other_count += 1
            else:
                key = self._add_item(item, page.place(number)) or key
        # Pages of one call lead from one to the next; the last leads nowhere.
        if page.next_link is not None:
            self._links.setdefault(key or ("", False), []).append(Page(page.name, [], next_link=page.next_link))
        elif key is not None:
            self._ended.add(key)
        elif not page.items:
            self._empty_end_count += 1

    def _add_item(self, item: dict[str, Any], place: str) -> tuple[str, bool] | None:
        """Take in one object. Returns which call told it, or None where it has no id."""
        properties = item.get("properties")
        told = {**properties, **item} if isinstance(properties, dict) else item
        hit_count = self.hits["vm"]
        vm = self._value(told, "vm", place)
        if vm is None and self.hits["vm"] > hit_count:
            return None  # there is one, of a kind that was found wrong
        if vm is None:
            keys = ", ".join(f"'{key}'" for key in islice(item, _WORDS_TOLD)) or "nothing"
            hint = "" if "vm" in self._asked else "; or map one: vm=PATH"
            path = self._asked.get("vm", "id")
            self.nameless.add("no id", None, f"{place}: must have an '{path}', got {keys}{hint}")
            return None
        vm = _as_id(vm)
        found = {column: self._value(told, column, place) for column in self.values if column in self._paths}
        in_scale_set = _IN_SCALE_SET.fullmatch(vm)
        of_subscription = _IN_SUBSCRIPTION.fullmatch(vm)
        if found["set"] is None and in_scale_set and "set" not in self._asked:
            found["set"] = in_scale_set[1]
        if "subscription" not in self._asked:
            found["subscription"] = of_subscription and of_subscription[1]
        if "power_state" not in self._asked:
            found["power_state"] = _power_state(told)
        has_view = isinstance(told.get("instanceView"), dict) or found["power_state"] is not None
        has_size = found["size"] is not None

        row = self.rows.setdefault(vm, len(self.rows))
        if row == len(self.places):
            self.places.append(place)
            self.has_model.append(False)
            self.has_status.append(False)
            for values in self.values.values():
                values.append(None)
        if (before := self._told.setdefault((row, has_size, has_view), place)) != place:
            sentence = f"{place}: a VM must be listed once, got '{vm}' in '{before}' too"
            self.findings.add("twice", vm, sentence)
        self.has_model[row] |= has_size or not has_view
        self.has_status[row] |= has_view
        is_viewed = isinstance(told.get("instanceView"), dict)
        for column, value in found.items():
            # Of two pages, the instance view knows better whether a VM runs.
            is_better = column == "power_state" and is_viewed and row not in self._viewed
            if value is not None and (is_better or self.values[column][row] is None):
                self.values[column][row] = value
        if is_viewed:
            self._viewed.add(row)
        told_by = in_scale_set or of_subscription
        return told_by[1] if told_by else "", has_view and not has_size

    def _value(self, told: dict[str, Any], column: str, place: str) -> Any:
        """What *told* says of *column*; None where it says nothing, or nothing that could be (which is found)."""
        asked = self._asked.get(column)
        for steps in self._paths[column]:
            value = _at(told, steps, is_blind=asked is not None)
            if isinstance(value, list) and len(value) < 2:
                value = value[0] if value else None
            if value is None or value == "":
                continue
            self.hits[column] += 1
            try:
                return self._converted(column, value)
            except ValueError as error:
                told_value = "an object" if isinstance(value, dict) else f"'{value}'"
                sentence = f"{place}: '{asked or steps[0][1]}' must be {error}, got {told_value}"
                self.findings.add("value", column, sentence)
                return None
        return None

    def _converted(self, column: str, value: Any) -> Any:
        if isinstance(value, dict | list):
            raise ValueError("one word or number")
        return self._converters[column](value)

    def warnings(self) -> Iterator[str]:
        """Columns that are perhaps misspelt; pages that lead on to others, where none given can be the last."""
        for column in self._asked:
            near = nearest_name(column, FLEET.names(), cutoff=_MISSPELT)
            if near is not None and near != column:
                yield f"map: '{column}' is kept as a column of your own; did you mean '{near}'?"
        open_ends = [pages[-1] for key, pages in self._links.items() if key not in self._ended]
        if len(open_ends) > self._empty_end_count:
            for page in open_ends:
                yield (
                    f"{page.name}: goes on at a nextLink, and no page given ends that list: VMs may be missing;"
                    f" the link is '{page.next_link}'"
                )


class _Fleet:
    """The fleet that an inventory amounts to: the `rows` kept, in order of id, with everything settled."""

    def __init__(self, inventory: _Inventory, relation: Relation, keep_deallocated: bool) -> None:
        self.inventory = inventory
        self.invented: list[str] = []
        self.values = inventory.values
        self.vms = list(inventory.rows)
        self.is_status_known = any(inventory.has_status)
        self.orphan_count = inventory.has_model.count(False)
        power = self.values["power_state"]
        listed = [row for row, has_model in enumerate(inventory.has_model) if has_model]
        self.off_host_count = sum(power[row] == _OFF_HOST for row in listed)
        self.is_off_host_kept = keep_deallocated
        kept = (row for row in listed if keep_deallocated or power[row] != _OFF_HOST)
        self.rows = sorted(kept, key=self.vms.__getitem__)
        self._settle_regions(relation)
        self.unknown_sizes = self._settle_sizes()
        self._settle_sets()
        self.assigned = {column: self._assign_domains(column, count) for column, count in _DOMAIN_COUNTS.items()}

    def _settle_regions(self, relation: Relation) -> None:
        """Locations as names of regions: "West Europe" is westeurope. Those that are none are found."""
        regions = self.values["region"]
        known = {name.lower(): name for name in relation.regions}
        hint = f"or {HOW_TO_LIST}"
        for row in self.rows:
            place, location = self.inventory.places[row], regions[row]
            if location is None:
                told = f"{place}: VM '{self.vms[row]}' must have a location, got none"
                self.inventory.findings.add("no region", None, told)
                continue
            word = location.replace(" ", "").lower()
            regions[row] = known.get(location.lower(), known.get(word, location))
            if regions[row] not in relation.paired:
                near = nearest(word, known)
                told = f"{place}: location must be a known region, got '{location}'{near}; {hint}"
                self.inventory.findings.add("region", location, told)

    def _settle_sizes(self) -> Counter[str]:
        """Sizes as the catalogue spells them, with what it says of them. Returns the VMs of each it does not have."""
        known = {name.lower(): size for name, size in catalogue().items()}
        unknown: Counter[str] = Counter()
        sizes = self.values["size"]
        added = [column for column in _FROM_SIZE if column not in self.values]
        self.values |= {column: [None] * len(self.vms) for column in added}
        for row in self.rows:
            size = known.get(sizes[row].lower()) if sizes[row] is not None else None
            if size is not None:
                sizes[row] = size.name
                for column in added:
                    self.values[column][row] = float(getattr(size, column))
            elif sizes[row] is not None:
                unknown[sizes[row]] += 1
        return unknown

    def _settle_sets(self) -> None:
        """Ids of sets, and their kinds; scale sets by placement group where they tell several."""
        sets, kinds, groups = (self.values[column] for column in ("set", "set_kind", "placement_group"))
        groups_of: dict[str, set[str]] = {}
        region_of: dict[str, int] = {}
        for row in self.rows:
            if (name := sets[row]) is None:
                continue
            sets[row] = name = _as_id(name)
            if kinds[row] is None:
                kinds[row] = next((kind for word, kind in _KIND_OF.items() if f"/{word}/" in name), None)
            if groups[row] is not None:
                groups_of.setdefault(name, set()).add(groups[row])
            first = region_of.setdefault(name, row)
            if self.values["region"][row] != self.values["region"][first]:
                where = " and ".join(f"'{self.values['region'][met]}' (VM '{self.vms[met]}')" for met in (first, row))
                told = f"a set must be in one region, got '{name}' in {where}; map one that is told apart, as a full id"
                self.inventory.findings.add("set", name, f"{self.inventory.places[row]}: {told}")
        self.groups_split_count = sum(len(found) > 1 for found in groups_of.values())
        for row in self.rows:
            if len(groups_of.get(sets[row], ())) > 1 and groups[row] is not None:
                sets[row] = f"{sets[row]}/placementgroups/{groups[row].lower()}"

    def _assign_domains(self, column: str, count_default: int) -> int:
        """Give the VMs whose set tells *column* of others one as well. Returns how many; `invented` says the rule."""
        domains = self.values[column]
        members: dict[str, list[int]] = {}
        for row in self.rows:
            if self.values["set"][row] is not None:
                members.setdefault(self.values["set"][row], []).append(row)
        assigned_count = set_count = 0
        for rows in members.values():
            given = Counter(domains[row] for row in rows if domains[row] is not None)
            if not given or given.total() == len(rows):
                continue
            numbers = range(max(count_default, 1 + max(given)))
            for row in (row for row in rows if domains[row] is None):
                domains[row] = min(numbers, key=given.__getitem__)
                given[domains[row]] += 1
                assigned_count += 1
            set_count += 1
        if assigned_count:
            self.invented.append(
                f"{column.replace('_', ' ')}s of {assigned_count:,} VMs in {set_count:,} sets that tell those of their"
                " others: in order of id, each in the emptiest domain of its set, the lowest of several"
            )
        return assigned_count

    def _open_set_count(self, column: str) -> int:
        """Sets that tell no *column* of any VM."""
        domains, sets = self.values[column], self.values["set"]
        names = {sets[row] for row in self.rows} - {None}
        return len(names - {sets[row] for row in self.rows if domains[row] is not None})

    def counts(self) -> dict[str, int]:
        """The facts in numbers."""
        sets = {self.values["set"][row]: self.values["set_kind"][row] for row in self.rows}
        singles = sum(self.values["set"][row] is None for row in self.rows)
        sets.pop(None, None)
        scale_set_count = sum(kind == "scale_set" for kind in sets.values())
        power = Counter(self.values["power_state"][row] for row in self.rows)
        return {
            "vms": len(self.rows),
            "regions": len({self.values["region"][row] for row in self.rows}),
            "availability_sets": len(sets) - scale_set_count,
            "scale_sets": scale_set_count,
            "singles": singles,
            "zonal": sum(self.values["zone"][row] is not None for row in self.rows),
            "stopped": power["stopped"],
            "deallocated": self.off_host_count,
            "update_domains_assigned": self.assigned["update_domain"],
            "fault_domains_assigned": self.assigned["fault_domain"],
            "unknown_sizes": len(self.unknown_sizes),
        }

    def notes(self) -> Iterator[str]:
        """What was settled in a way somebody might not expect."""
        counts = self.counts()
        if self.off_host_count:
            told = "kept, though they are" if self.is_off_host_kept else "left out: they are"
            hint = "" if self.is_off_host_kept else "; --keep-deallocated keeps them"
            yield f"{self.off_host_count:,} deallocated VMs are {told} on no host{hint}"
        if counts["stopped"]:
            yield f"{counts['stopped']:,} stopped VMs are kept: they still have their hosts"
        if not self.is_status_known:
            yield (
                "no page has an instance view (statusOnly=true): domains are not known, nor which VMs are deallocated"
            )
        elif lacking := sum(not self.inventory.has_status[row] for row in self.rows):
            yield f"{lacking:,} VMs have no status in any page: their domains and power state are not known"
        if self.orphan_count:
            yield f"{self.orphan_count:,} VMs have nothing but a status and are left out: their own page is missing"
        if self.inventory.other_count:
            yield f"{self.inventory.other_count:,} resources that are no VMs are left out"
        for column, domain_count in _DOMAIN_COUNTS.items():
            if open_count := self._open_set_count(column):
                yield (
                    f"{open_count:,} sets tell no {column.replace('_', ' ')}s: preparing spreads their VMs over"
                    f" {domain_count}, round robin by id"
                )
        if self.groups_split_count:
            yield f"{self.groups_split_count:,} scale sets tell several placement groups: each group is a set"
        if self.unknown_sizes:
            named = ", ".join(f"'{size}'" for size, _ in self.unknown_sizes.most_common(_WORDS_TOLD))
            more = f" and {len(self.unknown_sizes) - _WORDS_TOLD:,} more" * (len(self.unknown_sizes) > _WORDS_TOLD)
            yield (
                f"sizes that are not in the catalogue, {self.unknown_sizes.total():,} VMs: {named}{more};"
                f" they have no {', '.join(_FROM_SIZE)}"
            )

    def emptiness(self, files: list[Path]) -> str:
        """Why there is no VM to write."""
        place = files[0] if len(files) == 1 else "sources"
        if self.off_host_count:
            got = f"{self.off_host_count:,} deallocated ones; --keep-deallocated keeps them"
        elif self.orphan_count:
            got = f"the status of {self.orphan_count:,} and no page of the VMs themselves"
        else:
            got = "none"
        return f"{place}: must hold at least one VM, got {got}"

    def table(self) -> pa.Table:
        """The fleet as a table; columns without any value are left out."""
        columns: dict[str, pa.Array] = {"vm": pa.array([self.vms[row] for row in self.rows], pa.string())}
        for name, values in self.values.items():
            found = [values[row] for row in self.rows]
            if name == "placement_group" or all(value is None for value in found):
                continue
            known = next((column for column in FLEET.columns if column.name == name), None)
            target = arrow_type(known, pa.string()) if known is not None else arrow_type(FLEET["workload"])
            if pa.types.is_dictionary(target):
                columns[name] = pa.array(found, pa.string()).dictionary_encode()
            else:
                columns[name] = pa.array(found, target)
        names = [name for name in FLEET.names() if name in columns]
        fields = [arrow_field(FLEET[name], pa.string()) for name in names]
        own = [name for name in columns if name not in names]
        fields += [pa.field(name, columns[name].type) for name in own]
        metadata = {
            "fleetsim.table": FLEET.name,
            INVENTED_KEY.decode(): json.dumps(self.invented),
            **provenance_of(),
        }
        return pa.table([columns[name] for name in names + own], schema=pa.schema(fields, metadata=metadata))


def _lost_paths(inventory: _Inventory, asked: Mapping[str, str], files: list[Path]) -> list[str]:
    """The paths in *asked* that lead to nothing in any object, each with the nearest that does."""
    lost = {column: path for column, path in asked.items() if not inventory.hits[column]}
    if not lost or not inventory.item_count:
        return []
    known: set[str] = set()
    for page in read_pages(files, []):
        for item in islice(page.items, _ITEMS_LOOKED_INTO):
            known.update(_paths_in(item))
    by_likelihood = sorted(known, key=lambda path: (path.startswith("tags."), path))  # of one end, tags are likeliest
    ends = {path.rpartition(".")[2]: path for path in by_likelihood}
    problems = []
    for column, path in lost.items():
        end = nearest_name(path.rpartition(".")[2], ends)
        hint = f"; did you mean '{ends[end]}'?" if end else nearest(path, known)
        problems.append(f"map: path of '{column}' must lead to something in some object, got '{path}'{hint}")
    return problems


def _paths_in(value: Any, above: str = "") -> Iterator[str]:
    """Dotted paths to what can be a value; what is in `properties` can go without that word."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _paths_in(below, "" if key == "properties" and not above else f"{above}{key}.")
    elif above and value is not None:
        yield above.removesuffix(".")


def _steps(path: str) -> _Steps:
    words = path.split(".")
    return tuple((word, ".".join(words[place:])) for place, word in enumerate(words))


def _at(value: Any, steps: _Steps, *, is_blind: bool) -> Any:
    """What is in *value* at the end of *steps*, or None. *is_blind* to case, as the API is to names of tags."""
    for step, rest in steps:
        if isinstance(value, dict):
            if rest in value:
                return value[rest]
            if step not in value and is_blind:
                lowered = {key.lower(): key for key in value}
                if rest.lower() in lowered:
                    return value[lowered[rest.lower()]]
                step = lowered.get(step.lower(), step)  # noqa: PLW2901
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _as_id(name: str) -> str:
    """Resource ids are equal whatever their case; other names are not."""
    return name.lower() if name.startswith("/") else name


def _is_other(item: dict[str, Any]) -> bool:
    """Whether *item* is a resource of the cloud that is no VM."""
    kind = item.get("type")
    return isinstance(kind, str) and kind.lower().startswith("microsoft.") and kind.lower() not in _VM_TYPES


def _power_state(told: dict[str, Any]) -> str | None:
    """running, stopped, deallocated ...: from the instance view, `az vm list -d`, or the resource graph."""
    view = told.get("instanceView")
    statuses = view.get("statuses") if isinstance(view, dict) else None
    codes = [status.get("code") for status in statuses or () if isinstance(status, dict)]
    codes.append(_at(told, _GRAPH_POWER, is_blind=False))
    for code in codes:
        if isinstance(code, str) and code.lower().startswith(_POWER):
            return code[len(_POWER) :].lower()
    shown = told.get("powerState")
    return _shown_power(shown) if isinstance(shown, str) else None


_GRAPH_POWER = _steps("extended.instanceView.powerState.code")


def _shown_power(shown: object) -> str:
    """The state in words for people: "VM running", "Stopped (deallocated)"."""
    words = re.findall(r"[a-z]+", str(shown).lower())
    return _OFF_HOST if _OFF_HOST in words else words[-1] if words else str(shown)


def _converter(column: str) -> Callable[[Any], Any]:
    """What makes a value of *column* from what an object says; it raises ValueError: what must be there."""
    known = next((found for found in FLEET.columns if found.name == column), None)
    if column == "power_state":
        return _shown_power
    converters = {"u8": _domain, "f64": _number, "i64": _whole_number, "bool": _truth, "instant": _instant}
    return converters.get(known.dtype, _text) if known is not None else _text


def _text(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half of a character
        raise ValueError("text") from None
    return text


def _number(value: Any) -> float:
    if not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise ValueError("a number")


def _whole_number(value: Any) -> int:
    if not isinstance(value, bool | float) and re.fullmatch("-?[0-9]{1,18}", str(value)):
        return int(value)
    raise ValueError("a whole number")


def _domain(value: Any) -> int:
    try:
        number = _whole_number(value)
    except ValueError:
        number = -1
    if not 0 <= number < UPDATE_DOMAIN_COUNT_MAX:
        raise ValueError(f"a whole number from 0 to {UPDATE_DOMAIN_COUNT_MAX - 1}")
    return number


def _truth(value: Any) -> bool:
    word = str(value).lower()
    if word not in ("true", "false"):
        raise ValueError("true or false")
    return word == "true"


def _instant(value: Any) -> datetime:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError("an instant with a time zone")
    return found


@contextmanager
def _without_gc() -> Iterator[None]:
    """JSON has no cycles: looking for them among a million objects takes longer than reading them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
