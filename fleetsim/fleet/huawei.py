"""Huawei's public topology data as a fleet: VMs with affinity groups and fault domains, and beside it hosts and racks.

The data say which VMs must be near one another, apart, or spread over fault domains; not where they are. Regions,
update domains and clusters are made up here, and each sentence about that goes into the files.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from fleetsim.errors import InputError, nearest, nearest_name, nearest_path
from fleetsim.fleet.azure_trace import Imported
from fleetsim.fleet.read import INVENTED_KEY, Findings
from fleetsim.fleet.read_csv import open_csv
from fleetsim.progress import Progress
from fleetsim.schema import FLEET, UPDATE_DOMAIN_COUNT_DEFAULT, UPDATE_DOMAIN_COUNT_MAX
from fleetsim.shipped import dataset_path
from fleetsim.tables import arrow_field, arrow_type, check_new, folder_above, provenance_of, write_parquet

VMS = "huawei_topology_vms.csv.gz"
HOSTS = "huawei_topology_hosts.csv.gz"
"""The data as shipped: mdl1104/Dataset-for-topology-aware-VM-placement, CC0."""
REGIONS = ("eastus", "westus", "northeurope", "westeurope", "eastus2")
"""Regions of the sequences, in their order: two pairs, and one whose pair stays empty."""
CLUSTER_HOSTS = 446
"""Hosts of a cluster, about: the mean of the 36 in `azure_greensku_cluster_sizes.csv`."""

_STRATEGIES = ("fault_domain", "anti-affinity", "affinity")
_VM_COLUMNS = ("sequence", "vm_id", "vcpus", "memory_gib", "numa", "strategy", "group", "domain")
_HOST_COLUMNS = ("host_id", "rack_id")
_TEXT = arrow_type(FLEET["region"])

_Found = TypeVar("_Found")


def import_topology(
    out: str | Path,
    source: str | Path | None = None,
    sequence: str | None = None,
    *,
    hosts: str | Path | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Write the VMs of *source* as the new Parquet file *out*, and hosts beside it as `<stem of out>.hosts.parquet`.

    source    CSV sequence,vm_id,vcpus,memory_gib,numa,strategy,group,domain; default: the one shipped
    sequence  only the VMs of this one; default: all, each sequence in a region of its own, at most five
    hosts     CSV host_id,rack_id; default: the one shipped

    A group is a set. `fault_domain` is as given in a group that is spread over fault domains. VMs of an
    anti-affinity group are on different hosts: each in a domain of its own, as far as 20 go. Those of an affinity
    group are side by side: all in one domain, so that nothing is promised to it. The file of hosts has `host`,
    `rack`, `cluster` and `region`. Raises `InputError` with all that is wrong; nothing is written then.
    """
    out = Path(out)
    beside = out.with_name(f"{out.stem}.hosts.parquet")
    problems: list[str] = []

    def judged(read: Callable[[], _Found]) -> _Found | None:
        try:
            return read()
        except InputError as error:
            problems.extend(error.problems)
            return None

    for path in (out, beside):
        judged(lambda path=path: check_new(path))  # type: ignore[misc]
    judged(lambda: folder_above(out))
    vms = judged(lambda: _vms(dataset_path(VMS) if source is None else Path(source), sequence))
    racks = judged(lambda: _hosts(dataset_path(HOSTS) if hosts is None else Path(hosts)))
    if problems or vms is None or racks is None:
        raise InputError(problems)

    regions = dict(zip(sorted({vm["sequence"] for vm in vms}), REGIONS, strict=False))
    made = [_placed(vm, regions) for vm in vms]
    sets: Counter[str] = Counter(vm["set"] for vm in made if vm["set"] is not None)
    place: Counter[str] = Counter()  # of a VM in its set
    for vm in made:
        if vm["set"] is not None:
            number = place[vm["set"]]
            place[vm["set"]] += 1
            _deal_domains(vm, number)
    hosts_made = _arranged(racks, list(regions.values()))
    cluster_count = len({host["cluster"] for host in hosts_made})
    invented = (
        "regions: the data have none; "
        + ", ".join(f"sequence {name} is in {region}" for name, region in regions.items()),
        f"update domains: in a group over fault domains round robin over {UPDATE_DOMAIN_COUNT_DEFAULT}, in order of VM",
        f"anti-affinity groups: each VM has a fault and update domain of its own, of {UPDATE_DOMAIN_COUNT_MAX} at most",
        "affinity groups: their VMs are side by side, in one fault and update domain",
        f"hosts: racks are dealt to the regions in equal runs, and to {cluster_count} clusters of about"
        f" {CLUSTER_HOSTS} hosts; which VM is on which host is not known",
    )
    # Hosts first: where the fleet is, both are.
    write_parquet(beside, _table(hosts_made, "hosts", invented, _HOST_FIELDS))
    write_parquet(out, _table(made, FLEET.name, invented, _VM_FIELDS))
    if progress is not None:
        progress("import", len(made), len(made))
    counts = {
        "vms": len(made),
        "sequences": len(regions),
        "sets": len(sets),
        "singles": len(made) - sets.total(),
        **{
            f"{strategy.replace('-', '_')}_groups": sum(f"/{strategy}/" in name for name in sets)
            for strategy in _STRATEGIES
        },
        "hosts": len(hosts_made),
        "racks": len({host["rack"] for host in hosts_made}),
        "clusters": cluster_count,
    }
    return Imported(out, counts, invented, notes=(f"the hosts are in {beside}",))


def _placed(vm: dict[str, Any], regions: dict[str, str]) -> dict[str, Any]:
    """The columns of the fleet that one VM tells by itself."""
    is_in_set = vm["strategy"] is not None
    return {
        "vm": f"{vm['sequence']}/{vm['vm_id']}",
        "region": regions[vm["sequence"]],
        "set": f"{vm['sequence']}/{vm['strategy']}/{vm['group']}" if is_in_set else None,
        "set_kind": "availability_set" if is_in_set else None,
        "update_domain": None,
        "fault_domain": vm["domain"],
        "size": f"{vm['vcpus']:g}x{vm['memory_gib']:g}",
        "vcpus": vm["vcpus"],
        "memory_gib": vm["memory_gib"],
        "sequence": vm["sequence"],
        "strategy": vm["strategy"],
        "numa": vm["numa"],
    }


def _deal_domains(vm: dict[str, Any], number: int) -> None:
    """Domains of a VM that is *number* (from 0) in its set."""
    if vm["strategy"] == "fault_domain":
        vm["update_domain"] = number % UPDATE_DOMAIN_COUNT_DEFAULT
    elif vm["strategy"] == "anti-affinity":
        vm["update_domain"] = vm["fault_domain"] = number % UPDATE_DOMAIN_COUNT_MAX
    else:
        vm["update_domain"] = vm["fault_domain"] = 0


def _arranged(racks: dict[Any, list[str]], regions: list[str]) -> list[dict[str, Any]]:
    """Hosts with their rack, cluster and region: runs of racks, in their order, as long as one another."""
    made = []
    for region_number, region in enumerate(regions):
        start, stop = (len(racks) * bound // len(regions) for bound in (region_number, region_number + 1))
        own = list(racks.items())[start:stop]
        host_count = sum(len(found) for _, found in own)
        cluster_count = max(1, round(host_count / CLUSTER_HOSTS))
        for number, (rack, found) in enumerate(own):
            cluster = f"{region}-c{number * cluster_count // len(own)}"
            made += [{"host": host, "rack": f"rack-{rack}", "cluster": cluster, "region": region} for host in found]
    return made


_VM_FIELDS = [
    *(
        arrow_field(FLEET[name], pa.string())
        for name in ("vm", "region", "set", "set_kind", "update_domain", "fault_domain", "size", "vcpus", "memory_gib")
    ),
    pa.field("sequence", _TEXT),
    pa.field("strategy", _TEXT),
    pa.field("numa", pa.int64()),
]
_HOST_FIELDS = [pa.field("host", pa.string()), *(pa.field(name, _TEXT) for name in ("rack", "cluster", "region"))]


def _table(rows: list[dict[str, Any]], name: str, invented: tuple[str, ...], fields: list[pa.Field]) -> pa.Table:
    metadata = {"fleetsim.table": name, INVENTED_KEY.decode(): json.dumps(invented), **provenance_of()}
    schema = pa.schema(fields, metadata=metadata)
    columns = []
    for field in schema:
        values = [row[field.name] for row in rows]
        is_text = pa.types.is_dictionary(field.type)
        columns.append(pa.array(values, pa.string()).dictionary_encode() if is_text else pa.array(values, field.type))
    return pa.table(columns, schema=schema)


def _vms(path: Path, sequence: str | None) -> list[dict[str, Any]]:
    """The VMs of *path* (of *sequence*, where one is asked for) in order of sequence and id, judged."""
    rows = _rows(path, _VM_COLUMNS, "the topology data's VMs")
    findings = Findings()
    met: dict[tuple[Any, Any], int] = {}
    kept = []
    for number, row in enumerate(rows, 1):

        def must(column: str, is_right: bool, expected: str, number: int = number, row: dict[str, Any] = row) -> None:
            if not is_right:
                got = "nothing" if row[column] is None else f"'{row[column]}'"
                told = f"{path}: column '{column}', row {number}: must be {expected}, got {got}"
                findings.add(column, expected, told)

        in_group, is_spread = row["strategy"] is not None, row["strategy"] == "fault_domain"
        row["sequence"] = None if row["sequence"] is None else str(row["sequence"])
        must("sequence", row["sequence"] is not None, "a name")
        must("vm_id", row["vm_id"] is not None, "an id")
        for column in ("vcpus", "memory_gib"):
            number_found = _number(row[column])
            must(column, number_found is not None and 0 < number_found < math.inf, "a number above 0")
            row[column] = number_found
        must("numa", row["numa"] is None or isinstance(row["numa"], int), "a whole number")
        must("strategy", not in_group or row["strategy"] in _STRATEGIES, f"empty, {' or '.join(_STRATEGIES)}")
        must("group", (row["group"] is not None) == in_group, "given where there is a strategy, and nowhere else")
        is_domain = isinstance(row["domain"], int) and 0 <= row["domain"] < UPDATE_DOMAIN_COUNT_MAX
        if is_spread:
            must("domain", is_domain, f"a whole number from 0 to {UPDATE_DOMAIN_COUNT_MAX - 1}")
        else:
            must("domain", row["domain"] is None, "empty where the strategy is not fault_domain")
        first = met.setdefault((row["sequence"], row["vm_id"]), number)
        must("vm_id", first == number, f"unique in its sequence (row {first} has the same)")
        if sequence is None or row["sequence"] == sequence:
            kept.append(row)
    names = sorted({row["sequence"] for row in rows if row["sequence"] is not None})
    if sequence is not None and sequence not in names:
        near = nearest_name(sequence, names)
        hint = f"; did you mean '{near}'?" if near else ""
        told = f"sequence: must be one of {', '.join(names) or 'none'}, got '{sequence}'{hint}"
        findings.add("asked", sequence, told)
    elif sequence is None and len(names) > len(REGIONS):
        told = f"{path}: must have at most {len(REGIONS)} sequences, got {len(names)}; ask for one"
        findings.add("asked", sequence, told)
    findings.raise_any()
    return sorted(kept, key=lambda row: (row["sequence"], row["vm_id"]))


def _hosts(path: Path) -> dict[Any, list[str]]:
    """Hosts by rack, both in the order of *path*."""
    rows = _rows(path, _HOST_COLUMNS, "the topology data's hosts")
    findings = Findings()
    met: dict[str, int] = {}
    racks: dict[Any, list[str]] = {}
    for number, row in enumerate(rows, 1):
        for column in _HOST_COLUMNS:
            if row[column] is None:
                told = f"{path}: column '{column}', row {number}: must not be empty"
                findings.add("empty", column, told)
        host = str(row["host_id"])
        if (first := met.setdefault(host, number)) != number:
            told = f"{path}: column 'host_id', row {number}: must be unique, got '{host}' in row {first} too"
            findings.add("twice", host, told)
        racks.setdefault(row["rack_id"], []).append(host)
    findings.raise_any()
    return racks


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _rows(path: Path, columns: tuple[str, ...], what: str) -> list[dict[str, Any]]:
    """The rows of the CSV file *path*, *columns* alone; `InputError` where one is missing."""
    expected = f"must be {what} as CSV with the columns {', '.join(columns)}"
    if not path.is_file():
        raise InputError(f"{path}: {expected}, got no such file{nearest_path(path)}")
    schema, batches = open_csv(path)
    if lacking := [name for name in columns if name not in schema.names]:
        raise InputError([f"{path}: {expected}, got no '{name}'{nearest(name, schema.names)}" for name in lacking])
    rows: list[dict[str, Any]] = pa.Table.from_batches(batches(), schema).select(columns).to_pylist()
    if not rows:
        raise InputError(f"{path}: must hold at least one row, got none")
    return rows
