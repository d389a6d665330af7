"""Importers: the same fleet from every form an inventory comes in, topology data, and one's own among strangers."""

import gzip
import json
import random
import shutil

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleetsim import cli, fleet
from fleetsim.errors import InputError
from fleetsim.fleet import read
from fleetsim.fleet.huawei import HOSTS, VMS
from fleetsim.regions import HOW_TO_LIST
from fleetsim.shipped import dataset_path
from fleetsim.sizes import catalogue
from tests.inventories import make

API, AZ, OWN = (make.HERE / form for form in ("api", "az", "own"))
CSV_MAP = {
    **{"vm": "Resource", "region": "Location", "set": "Set", "update_domain": "UD", "fault_domain": "FD"},
    **{"zone": "Zone", "size": "Size", "power_state": "Status", "application": "App", "workload": "Workload"},
}
LINES_MAP = {**CSV_MAP, "update_domain": "placement.domains.UD", "fault_domain": "placement.domains.FD"}
TAGS_MAP = {"application": "tags.app", "workload": "tags.workload"}
SUB = "/subscriptions/s"
WEB = f"{SUB}/resourceGroups/RG/providers/Microsoft.Compute/availabilitySets/WEB"


def vm(name, **properties):
    """One VM as the API lists it."""
    resource = f"{SUB}/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/{name}"
    described = {"hardwareProfile": {"vmSize": "Standard_D2s_v3"}, **properties}
    return {"id": resource, "location": "westeurope", "properties": described}


def status(name, power="running", **view):
    """The status of that VM, as the API lists it."""
    codes = [{"code": "ProvisioningState/succeeded"}, {"code": f"PowerState/{power}"}]
    return {"id": vm(name)["id"].upper(), "properties": {"instanceView": {"statuses": codes, **view}}}


@pytest.fixture
def given(tmp_path):
    """Write a file of an inventory: text as it is, anything else as JSON."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return path

    return write


@pytest.fixture
def imported(tmp_path):
    """Import sources: what is told, and the fleet."""

    def call(*sources, columns=None, **how):
        out = tmp_path / f"fleet-{len(list(tmp_path.glob('fleet-*')))}.parquet"
        told = fleet.import_inventory(sources, out, columns, **how)
        return told, pl.read_parquet(out)

    return call


@pytest.fixture
def refused(tmp_path):
    """The problems of sources that cannot be imported; nothing is written."""

    def call(*sources, columns=None, **how):
        with pytest.raises(InputError) as caught:
            fleet.import_inventory(sources, tmp_path / "refused.parquet", columns, **how)
        assert not (tmp_path / "refused.parquet").exists()
        return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return call


def short(ids):
    return [None if name is None else name.rpartition("/")[2] for name in ids]


# ---- Every form of one estate --------------------------------------------------------------------------------


def test_the_fixtures_are_what_their_script_makes(tmp_path):
    make.write(tmp_path)
    files = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = [path for form in (API, AZ, OWN) for path in form.rglob("*") if path.is_file()]

    assert files == {path.relative_to(make.HERE): path.read_bytes() for path in kept}
    assert {path.name: path.read_bytes() for path in make.EXAMPLE.iterdir()} == {
        path.name: content for path, content in files.items() if path.parts[0] == "api"
    }
    assert sum(path.stat().st_size for path in make.EXAMPLE.iterdir()) <= 300_000
    assert len(make.estate()) == 200


def test_the_api_tells_the_whole_estate(imported):
    told, made = imported(API, columns={**TAGS_MAP, "tier": "tags.tier"})
    sizes = catalogue()
    expected = []
    for one in make.estate():
        group, described, view = one.group, one.described(), one.view()
        if one.power == "deallocated":
            continue
        in_set = described.get("availabilitySet") or described.get("virtualMachineScaleSet")
        uniform = one.id.lower().partition("/virtualmachines/")[0] if group.kind == make.UNIFORM else None
        kind = {make.AVAILABILITY_SET: "availability_set", make.FLEXIBLE: "scale_set", make.UNIFORM: "scale_set"}
        size = sizes.get(group.size)
        expected.append(
            {
                "vm": one.id.lower(),
                "region": group.region,
                "set": in_set["id"].lower() if in_set else uniform,
                "set_kind": kind.get(group.kind),
                "update_domain": view.get("platformUpdateDomain"),
                "fault_domain": view.get("platformFaultDomain"),
                "zone": str(one.number % 3 + 1) if group.kind == make.ZONAL else None,
                "size": group.size,
                "vcpus": size and float(size.vcpus),
                "memory_gib": size and size.memory_gib,
                "temp_disk_gib": size and size.temp_disk_gib,
                "workload": group.workload or None,
                "application": group.application or None,
                "subscription": make.SUBSCRIPTION.format(0),
                "tier": group.tier or None,
                "power_state": one.power,
            }
        )

    assert made.to_dicts() == sorted(expected, key=lambda row: row["vm"])
    assert told.counts == {
        **{"vms": 194, "regions": 6, "availability_sets": 6, "scale_sets": 4, "singles": 33, "zonal": 18},
        **{"stopped": 4, "deallocated": 6, "update_domains_assigned": 0, "fault_domains_assigned": 0},
        "unknown_sizes": 1,
    }
    assert told.invented == ()
    assert told.warnings == ()
    assert told.notes == (
        "6 deallocated VMs are left out: they are on no host; --keep-deallocated keeps them",
        "4 stopped VMs are kept: they still have their hosts",
        "2 sets tell no update domains: preparing spreads their VMs over 5, round robin by id",
        "sizes that are not in the catalogue, 4 VMs: 'Standard_D2xs_v9'; they have no vcpus, memory_gib, temp_disk_gib",
    )


@pytest.mark.parametrize(
    ("sources", "columns"),
    [([AZ], TAGS_MAP), ([OWN / "vms.csv"], CSV_MAP), ([OWN / "vms.jsonl"], LINES_MAP)],
    ids=["az", "csv", "jsonl"],
)
def test_every_form_of_the_estate_is_the_same_fleet(imported, sources, columns):
    told, made = imported(*sources, columns=columns)
    told_by_api, by_api = imported(API, columns=TAGS_MAP)

    assert made.to_dicts() == by_api.to_dicts()
    assert made.columns == by_api.columns
    assert (told.counts, told.notes) == (told_by_api.counts, told_by_api.notes)


def test_the_order_of_pages_does_not_matter(imported):
    files = sorted(API.iterdir())
    random.Random(1).shuffle(files)
    first, second = imported(API)[0], imported(*files, API)[0]  # a file that is given twice is read once

    assert first.path.read_bytes() == second.path.read_bytes()


def test_an_imported_estate_is_usable(imported):
    told, made = imported(API)
    found = fleet.check(told.path)

    assert (found.vm_count, found.set_count, found.single_count) == (194, 10, 33)
    assert found.warnings == ()
    assert made["set"].n_unique() == 11  # with null: `web` and `db` of two groups each are apart


def test_the_resource_graph_is_read_too(imported, given):
    def row(name, power):
        return {
            **vm(name, extended={"instanceView": {"powerState": {"code": f"PowerState/{power}"}}}),
            "type": "microsoft.compute/virtualmachines",
        }

    disk = {"id": f"{SUB}/disks/d", "type": "microsoft.compute/disks", "location": "westeurope"}
    path = given("graph.json", {"count": 3, "data": [row("a", "running"), row("b", "deallocated"), disk]})
    told, made = imported(path)

    assert short(made["vm"]) == ["a"]
    assert told.counts["deallocated"] == 1
    assert "1 resources that are no VMs are left out" in told.notes


@pytest.mark.parametrize("shown", ["VM deallocated", "Stopped (deallocated)", "deallocated", "PowerState/deallocated"])
def test_deallocated_is_understood_in_words(imported, given, shown):
    path = given("vms.json", [{**vm("a"), "powerState": "VM running"}, {**vm("b"), "powerState": shown}])

    assert short(imported(path)[1]["vm"]) == ["a"]
    assert short(imported(path, keep_deallocated=True)[1]["vm"]) == ["a", "b"]
    assert imported(path, keep_deallocated=True)[1]["power_state"].to_list() == ["running", "deallocated"]


@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16", "gzip", "rows", "one", "pages"])
def test_pages_come_in_many_wrappings(imported, given, tmp_path, form):
    vms = [vm("a"), vm("b")]
    text = {
        "rows": "\n\n".join(json.dumps(one, indent=1) for one in vms),
        "one": json.dumps(vms[0]) + "\n" + json.dumps({"value": vms[1:]}),
        "pages": json.dumps({"value": vms[:1]}, indent=2) + json.dumps(vms[1:]),
    }.get(form, json.dumps(vms))
    path = given("vms.json", text)
    if form.startswith("utf"):
        path.write_text(text, form)
    elif form == "gzip":
        path = tmp_path / "vms.json.gz"
        path.write_bytes(gzip.compress(text.encode()))

    assert short(imported(path)[1]["vm"]) == ["a", "b"]


# ---- Sets and domains ----------------------------------------------------------------------------------------


def test_missing_domains_go_to_the_emptiest_by_id(imported, given):
    names = "abcdefgh"
    given("d/vms.json", {"value": [vm(name, availabilitySet={"id": WEB}) for name in names]})
    views = {"a": 6, "b": 0, "c": 0, "d": 2, "e": None, "f": None, "g": None, "h": None}
    views = {name: {} if domain is None else {"platformUpdateDomain": domain} for name, domain in views.items()}
    path = given("d/status.json", {"value": [status(name, **view) for name, view in reversed(views.items())]})
    told, made = imported(path.parent)

    assert made["update_domain"].to_list() == [6, 0, 0, 2, 1, 3, 4, 5]
    assert "fault_domain" not in made.columns
    assert told.counts["update_domains_assigned"] == 4
    assert told.invented == (
        "update domains of 4 VMs in 1 sets that tell those of their others: in order of id, each in the emptiest"
        " domain of its set, the lowest of several",
    )
    assert json.loads(pq.read_schema(told.path).metadata[b"fleetsim.invented"]) == list(told.invented)
    assert "1 sets tell no fault domains: preparing spreads their VMs over 3, round robin by id" in told.notes
    assert fleet.check(told.path).invented == told.invented


def test_deallocated_vms_that_are_kept_get_domains(imported):
    told, made = imported(API, keep_deallocated=True)

    assert told.counts["vms"] == 200
    assert (told.counts["update_domains_assigned"], told.counts["fault_domains_assigned"]) == (3, 5)
    assert made.filter(pl.col("set").is_not_null() & pl.col("fault_domain").is_null()).is_empty()
    assert told.notes[0] == "6 deallocated VMs are kept, though they are on no host"
    assert fleet.check(told.path).vm_count == 200


def test_domains_of_text_and_the_largest_are_read(imported, given):
    path = given("vms.json", [vm("a", availabilitySet={"id": WEB}, instanceView={"platformUpdateDomain": "19"})])

    assert imported(path)[1]["update_domain"].to_list() == [19]


def test_a_scale_set_of_several_placement_groups_is_a_set_each(imported, given):
    def instance(number, group):
        scale_set = f"{SUB}/resourceGroups/rg/providers/Microsoft.Compute/virtualMachineScaleSets/SS"
        view = {} if group is None else {"placementGroupId": group}
        described = {"properties": {"instanceView": view}, "sku": {"name": "standard_f2S_v2"}}
        return {"id": f"{scale_set}/virtualMachines/{number}", "location": "West Europe", **described}

    one, made_of_one = imported(given("one.json", [instance(n, "G") for n in range(3)]))
    told, made = imported(given("two.json", [instance(n, g) for n, g in enumerate(["G", "H", "G", None])]))

    assert short(made_of_one["set"]) == ["ss"] * 3
    assert short(made["set"]) == ["g", "h", "g", "ss"]
    assert made["set"][0].endswith("/virtualmachinescalesets/ss/placementgroups/g")
    assert set(made["set_kind"]) == {"scale_set"}
    assert set(made["size"]) == {"Standard_F2s_v2"}  # as the catalogue spells it
    assert one.notes[-1] != told.notes[-1] == "1 scale sets tell several placement groups: each group is a set"


def test_a_set_in_two_regions_is_refused(refused, given):
    path = given("vms.json", [vm("a"), {**vm("b"), "location": "eastus"}])

    assert refused(path, columns={"set": "hardwareProfile.vmSize"}) == [
        "vms.json: item 2: a set must be in one region, got 'Standard_D2s_v3' in 'westeurope'"
        f" (VM '{vm('a')['id'].lower()}') and 'eastus' (VM '{vm('b')['id'].lower()}'); map one that is told apart,"
        " as a full id"
    ]


# ---- What one asks for ---------------------------------------------------------------------------------------


def test_columns_are_mapped_as_their_types(imported, given):
    tags = {"App": "shop", "cost.center": "x", "pause": "1500", "ip": "TRUE", "cpu": 2.5}
    one = {**vm("a", timeCreated="2024-03-05T09:12:44.1234567+01:00"), "tags": tags, "zones": ["2"]}
    paths = {
        **{"application": "tags.app", "cost": "tags.cost.center", "pause_max_ms": "tags.pause"},
        **{"dynamic_ip": "tags.ip", "vcpus": "tags.cpu", "created": "properties.timeCreated", "zone": "zones.0"},
    }
    made = imported(given("vms.json", [one, vm("b")]), columns=paths)[1]

    row = made.to_dicts()[0]
    assert {name: row[name] for name in ("application", "cost", "pause_max_ms", "dynamic_ip", "vcpus", "zone")} == {
        **{"application": "shop", "cost": "x", "pause_max_ms": 1500, "dynamic_ip": True, "vcpus": 2.5, "zone": "2"},
    }
    assert row["created"].isoformat() == "2024-03-05T08:12:44.123000+00:00"
    assert made["application"].to_list() == ["shop", None]


def test_a_path_that_leads_nowhere_is_told_with_the_nearest(refused):
    assert refused(
        API, columns={"application": "tag.app", "tier": "tier", "owner": "zzz", "size": "tags.workload"}
    ) == [
        "map: path of 'application' must lead to something in some object, got 'tag.app'; did you mean 'tags.app'?",
        "map: path of 'tier' must lead to something in some object, got 'tier'; did you mean 'tags.tier'?",
        "map: path of 'owner' must lead to something in some object, got 'zzz'",
    ]


def test_an_object_without_what_is_mapped_to_vm_is_told_and_not_forgotten(refused, given):
    path = given("vms.json", [{"name": "x", "location": "eastus"}, {"key": "a", "location": "eastus"}])

    assert refused(path, columns={"vm": "key"}) == ["vms.json: item 1: must have an 'key', got 'name', 'location'"]
    assert refused(path, columns={"vm": "nam"}) == [
        "map: path of 'vm' must lead to something in some object, got 'nam'; did you mean 'name'?"
    ]


def test_numbers_that_are_none_are_told(refused, given):
    path = given("vms.json", [{**vm("a"), "cpu": 10**400, "flag": 2, "at": "2024-01-01", "pause": 1.5}])
    columns = {"vcpus": "cpu", "dynamic_ip": "flag", "created": "at", "pause_max_ms": "pause"}

    assert [problem.replace("0" * 400, "...") for problem in refused(path, columns=columns)] == [
        "vms.json: item 1: 'cpu' must be a number, got '1...'",
        "vms.json: item 1: 'flag' must be true or false, got '2'",
        "vms.json: item 1: 'at' must be an instant with a time zone, got '2024-01-01'",
        "vms.json: item 1: 'pause' must be a whole number, got '1.5'",
    ]


def test_columns_that_cannot_be_mapped_are_told_at_once(refused, tmp_path):
    (tmp_path / "refused.parquet" / "x").mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        fleet.import_inventory(API, tmp_path / "refused.parquet", {"vm_row": "id", "": "id", "tier": ""})

    assert caught.value.problems == [
        f"{tmp_path / 'refused.parquet'}: must not be there yet, got an existing folder",
        "map: column must not be one that fleetsim makes, got 'vm_row'; call it otherwise",
        "map: must be COLUMN=PATH, got '=id'",
        "map: must be COLUMN=PATH, got 'tier='",
    ]


def test_regions_of_ones_own(imported, refused, given, tmp_path):
    given("pairs.csv", "region,paired_region\nNorth-1,\nsouth,\n")
    path = given("vms.json", [{**vm("a"), "location": "north-1"}, {**vm("b"), "location": "South"}])

    assert imported(path, pairs=tmp_path / "pairs.csv")[1]["region"].to_list() == ["North-1", "south"]
    assert refused(path) == [
        f"vms.json: item 1: location must be a known region, got 'north-1'; did you mean 'uaenorth'?; or {HOW_TO_LIST}",
        f"vms.json: item 2: location must be a known region, got 'South'; did you mean 'uksouth'?; or {HOW_TO_LIST}",
    ]


# ---- Pages that do not fit -----------------------------------------------------------------------------------


def test_what_pages_lack_is_counted_and_said(imported, given):
    vms = given("vms.json", {"value": [vm(name) for name in "abc"]})
    statuses = given("status.json", {"value": [status(name) for name in "bxy"]})
    told, made = imported(vms, statuses)

    assert short(made["vm"]) == ["a", "b", "c"]
    assert made["power_state"].to_list() == [None, "running", None]
    assert "2 VMs have no status in any page: their domains and power state are not known" in told.notes
    assert "2 VMs have nothing but a status and are left out: their own page is missing" in told.notes


def test_no_instance_view_at_all_is_said(imported, given):
    path = given("vms.json", [vm(name, availabilitySet={"id": WEB}) for name in "ab"])
    told, made = imported(path)

    assert told.notes == (
        "no page has an instance view (statusOnly=true): domains are not known, nor which VMs are deallocated",
        "1 sets tell no update domains: preparing spreads their VMs over 5, round robin by id",
        "1 sets tell no fault domains: preparing spreads their VMs over 3, round robin by id",
    )
    assert "power_state" not in made.columns
    assert fleet.check(told.path).set_count == 1


def test_a_list_without_its_end_is_a_warning(imported, given, tmp_path):
    shutil.copytree(API, tmp_path / "api")
    (tmp_path / "api" / "vms-2.json").unlink()
    told, _ = imported(tmp_path / "api")

    (warning,) = told.warnings
    assert warning.startswith(f"{tmp_path}/api/vms-1.json: goes on at a nextLink, and no page given ends that list: ")
    assert "$skiptoken=1'" in warning
    given("api/vms-3.json", {"value": []})  # a last page may be empty
    assert imported(tmp_path / "api")[0].warnings == ()


def test_a_vm_in_two_pages_is_refused_with_both(refused, given):
    first = given("a.json", {"value": [vm("a"), vm("b")]})
    second = given("b.json", {"value": [vm("c"), {**vm("B"), "location": "eastus"}]})
    again = given("c.json", {"value": [status("a"), status("a")]})

    assert refused(first, second, again) == [
        f"b.json: item 2: a VM must be listed once, got '{vm('b')['id'].lower()}' in 'a.json: item 2' too",
        f"c.json: item 2: a VM must be listed once, got '{vm('a')['id'].lower()}' in 'c.json: item 1' too",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "bad.json: must be a page of VMs as JSON, got an empty file"),
        ('{"value": [\n{"id": "/a"', "bad.json: line 2: must be JSON, got a file that is cut off there"),
        ('[{"id": "/a', "bad.json: line 1: must be JSON, got a file that is cut off there"),
        ("Name    Location\n", "bad.json: line 1: must be JSON, got what is none: expecting value"),
        ("[" * 100_000, "bad.json: line 1: must be a page of VMs, got JSON too large to be one"),
        ("[" + "9" * 5_000, "bad.json: line 1: must be a page of VMs, got JSON too large to be one"),
        ('[{"id": "/\\ud800"}]', "bad.json: item 1: 'id' must be text, got '/\ud800'"),
        (
            {"error": {"code": "AuthorizationFailed", "message": "No.\nNever."}},
            "bad.json: must be a page of VMs, got an error of the API, 'AuthorizationFailed': 'No.'; call it anew",
        ),
        ({"value": []}, "bad.json: must hold at least one VM, got none"),
        ([], "bad.json: must hold at least one VM, got none"),
        (["a", 1], "bad.json: item 1: must be an object, got 'a' (2 rows)"),
        ({"name": "a", "kind": 1}, "bad.json: line 1: must have an 'id', got 'name', 'kind'; or map one: vm=PATH"),
        ([{}], "bad.json: item 1: must have an 'id', got nothing; or map one: vm=PATH"),
        ([{"id": {"a": 1}}], "bad.json: item 1: 'id' must be one word or number, got an object"),
        ([{"id": "/a"}], "bad.json: item 1: VM '/a' must have a location, got none"),
        (
            [{"id": "/a", "location": "West Europa"}],
            "bad.json: item 1: location must be a known region, got 'West Europa'; did you mean 'westeurope'?;"
            f" or {HOW_TO_LIST}",
        ),
        *(
            (
                [vm("a", instanceView={"platformUpdateDomain": domain})],
                "bad.json: item 1: 'instanceView.platformUpdateDomain' must be a whole number from 0 to 19,"
                f" got '{domain}'",
            )
            for domain in (20, -1, 2.0, True, "two")
        ),
        ([status("a")], "bad.json: must hold at least one VM, got the status of 1 and no page of the VMs themselves"),
        (
            [{**vm("a"), "powerState": "VM deallocated"}],
            "bad.json: must hold at least one VM, got 1 deallocated ones; --keep-deallocated keeps them",
        ),
    ],
)
def test_a_page_that_is_none_is_told(refused, given, content, problem):
    problems = refused(given("bad.json", content))

    assert problems == [problem]


def test_sources_that_are_not_there_are_told(refused, given, tmp_path):
    (tmp_path / "empty").mkdir()
    given("vms.json", [vm("a")])
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"[]" * 99)[:20])
    (tmp_path / "torn.json.gz").write_bytes(gzip.compress(b"[]")[:10] + b"\xff" * 20)

    *told, torn = refused(
        *(tmp_path / name for name in ("vsm.json", "empty", "bytes.json", "cut.json.gz", "torn.json.gz"))
    )
    assert torn.startswith("torn.json.gz: must be readable text, got: ")
    assert told == [
        "vsm.json: must be a file or folder, got nothing there; did you mean 'vms.json'?",
        "empty: must hold files named *.json, *.jsonl, *.ndjson, *.csv, got none",
        "bytes.json: must be readable text, got: bytes that are no text",
        "cut.json.gz: must be readable text, got: compressed file ended before the end-of-stream marker was reached",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "vms.csv: must have a header, got an empty file"),
        ("id;location\n", "vms.csv: must be separated by ',', got a header separated by ';'"),
        ("id,location\na,b,c\nx,westeurope\ny\n", "vms.csv: row 1: must have 2 fields, got 3"),
        (
            "id,location\nx,westeurope\n,eastus\n",
            "vms.csv: row 2: must have an 'id', got 'location'; or map one: vm=PATH",
        ),
    ],
)
def test_a_spreadsheet_that_is_none_is_told(refused, given, text, problem):
    assert refused(given("vms.csv", text))[0] == problem


def test_all_that_is_wrong_is_told_at_once(refused, given):
    given("in/cut.json", '{"value": [')
    given("in/error.json", {"error": {"code": "Gone", "message": ""}})
    given("in/vms.json", [vm("a"), vm("A"), {**vm("b"), "location": "nowhere"}, {"name": "x"}, 3])
    path = given("in/vms2.csv", "id,location,UD\nx,eastus,20\n")

    places = [problem.partition(": ")[0] for problem in refused(path.parent, columns={"update_domain": "UD"})]
    assert sorted(places) == [f"in/{name}" for name in ("cut.json", "error.json", *["vms.json"] * 4, "vms2.csv")]


def test_a_column_that_is_nearly_a_known_one_is_told(imported):
    told, made = imported(API, columns={"aplication": "tags.app", "owner": "tags.app"})

    assert [warning for warning in told.warnings if warning.startswith("map")] == [
        "map: 'aplication' is kept as a column of your own; did you mean 'application'?"
    ]
    assert made["aplication"].equals(made["owner"].alias("aplication"))


@pytest.mark.parametrize("pages", [("list.json", "status.json"), ("status.json", "list.json")])
def test_an_instance_view_knows_better_whether_a_vm_runs(imported, tmp_path, pages):
    listed = {"id": "/subscriptions/s/vm", "location": "eastus", "hardwareProfile": {"vmSize": "Standard_D2s_v3"}}
    view = {"statuses": [{"code": "PowerState/stopped"}]}
    found = {
        "list.json": [listed | {"powerState": "VM running"}],
        "status.json": [{"id": "/subscriptions/s/vm", "location": "eastus", "instanceView": view}],
    }
    for number, page in enumerate(pages):
        (tmp_path / "pages").mkdir(exist_ok=True)
        (tmp_path / "pages" / f"{number}-{page}").write_text(json.dumps(found[page]))

    _, made = imported(tmp_path / "pages")

    assert made["power_state"].to_list() == ["stopped"]


# ---- The command line ----------------------------------------------------------------------------------------


@pytest.fixture
def say(capsys):
    """Run fleetsim: (exit code, stdout, stderr)."""

    def run(*arguments):
        code = cli.answer([*map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_the_command_imports_and_tells(say, tmp_path):
    out = tmp_path / "own.parquet"
    mapped = ["--map", "application=tags.app, workload=tags.workload", "--map", "tier=tags.tier"]
    code, shown, err = say("fleet", "import", "azure-inventory", API, "-o", out, *mapped)

    assert (code, err) == (0, "")
    assert "availability sets        6\n" in shown
    assert "note                     6 deallocated VMs are left out" in shown
    assert {"application", "workload", "tier"} <= set(pq.read_schema(out).names)


def test_the_command_prints_json(say, tmp_path):
    _, shown, _ = say("fleet", "import", "azure-inventory", AZ, "-o", tmp_path / "own", "--keep-deallocated", "--json")
    told = json.loads(shown)

    assert told["counts"]["vms"] == 200
    assert set(told) == {"fleet", "counts", "invented", "notes", "warnings"}


@pytest.mark.parametrize(
    ("mapped", "problem"),
    [
        ("size", "--map: must be COLUMN=PATH, separated by ',', got 'size'"),
        ("size=a,", "--map: must be COLUMN=PATH, separated by ',', got ''"),
        ("size=a,size=b", "--map: a column must be mapped once, got 'size' to 'a' and 'b'"),
    ],
)
def test_a_map_that_is_none_is_told(say, tmp_path, mapped, problem):
    code, _, err = say("fleet", "import", "azure-inventory", API, "-o", tmp_path / "own", "--map", mapped)

    assert (code, err) == (2, f"fleetsim: {problem}\n")


# ---- Huawei's topology ---------------------------------------------------------------------------------------


VMS_HEADER = "sequence,vm_id,vcpus,memory_gib,numa,strategy,group,domain\n"
TINY_VMS = VMS_HEADER + (
    "B,0,2,4,1,fault_domain,0,2\nB,1,2,4,1,fault_domain,0,0\nB,2,2,4,1,,,\nB,3,4,8,2,affinity,0,\nB,4,4,8,2,affinity,0,\n"
    "A,0,1,0.5,1,anti-affinity,0,\nA,1,1,0.5,1,anti-affinity,0,\n"
)
TINY_HOSTS = "host_id,rack_id\nh0,0\nh1,0\nh2,1\nh3,2\n"


def test_groups_become_sets_with_domains(given, tmp_path):
    vms, hosts = given("vms.csv", TINY_VMS), given("hosts.csv", TINY_HOSTS)
    told = fleet.import_topology(tmp_path / "out.parquet", vms, hosts=hosts)
    made = pl.read_parquet(tmp_path / "out.parquet")

    assert made.select("vm", "region", "set", "update_domain", "fault_domain", "size").rows() == [
        ("A/0", "eastus", "A/anti-affinity/0", 0, 0, "1x0.5"),
        ("A/1", "eastus", "A/anti-affinity/0", 1, 1, "1x0.5"),
        ("B/0", "westus", "B/fault_domain/0", 0, 2, "2x4"),
        ("B/1", "westus", "B/fault_domain/0", 1, 0, "2x4"),
        ("B/2", "westus", None, None, None, "2x4"),
        ("B/3", "westus", "B/affinity/0", 0, 0, "4x8"),
        ("B/4", "westus", "B/affinity/0", 0, 0, "4x8"),
    ]
    assert pl.read_parquet(tmp_path / "out.hosts.parquet").rows() == [
        ("h0", "rack-0", "eastus-c0", "eastus"),
        ("h1", "rack-0", "eastus-c0", "eastus"),
        ("h2", "rack-1", "westus-c0", "westus"),
        ("h3", "rack-2", "westus-c0", "westus"),
    ]
    assert told.counts == {
        **{"vms": 7, "sequences": 2, "sets": 3, "singles": 1, "fault_domain_groups": 1, "anti_affinity_groups": 1},
        **{"affinity_groups": 1, "hosts": 4, "racks": 3, "clusters": 2},
    }
    for name in ("out", "out.hosts"):
        assert (
            pq.read_schema(tmp_path / f"{name}.parquet").metadata[b"fleetsim.invented"]
            == json.dumps(told.invented).encode()
        )
    found = fleet.check(tmp_path / "out.parquet")
    assert (found.set_count, found.no_guarantee_count, found.invented) == (3, 1, told.invented)


def test_an_anti_affinity_group_of_more_than_twenty_starts_again(given, tmp_path):
    lines = "".join(f"A,{number},1,2,1,anti-affinity,7,\n" for number in range(22))
    fleet.import_topology(tmp_path / "out.parquet", given("vms.csv", VMS_HEADER + lines))

    assert pl.read_parquet(tmp_path / "out.parquet")["update_domain"].to_list() == [*range(20), 0, 1]


def test_the_data_that_ship_are_a_usable_fleet(say, tmp_path):
    code, shown, _ = say("fleet", "import", "huawei-topology", "-o", tmp_path / "all.parquet", "--json")
    counts = json.loads(shown)["counts"]
    found = fleet.check(tmp_path / "all.parquet")

    assert code == 0
    assert (counts["vms"], counts["hosts"], counts["racks"]) == (24_990, 17_387, 1_024)
    assert (found.vm_count, found.set_count, found.single_count) == (24_990, 1_846, 12_373)
    assert len(found.vm_count_by_region) == 5

    fleet.import_topology(tmp_path / "one.parquet", sequence="C4")
    one = pl.read_parquet(tmp_path / "one.parquet")
    whole = pl.read_parquet(tmp_path / "all.parquet").filter(pl.col("sequence") == "C4")
    assert one.drop("region").equals(whole.drop("region"))


def test_topology_data_that_are_none_are_told_at_once(given, tmp_path):
    vms = given(
        "vms.csv",
        VMS_HEADER + "A,0,0,2,1,,,\nA,0,x,2,1,,,\n,1,1,2,1,near,0,\nA,2,1,,1,fault_domain,,20\nA,3,1,2,1,,5,\n"
        "A,4,1,2,1,affinity,0,1\n",
    )
    hosts = given("hosts.csv", "host_id,rack_id\nh,0\nh,1\n,2\n")
    given("out.hosts.parquet", "mine")
    with pytest.raises(InputError) as caught:
        fleet.import_topology(tmp_path / "out.parquet", vms, hosts=hosts)
    at = f"{vms}: column "

    assert caught.value.problems == [
        f"{tmp_path}/out.hosts.parquet: must not be there yet, got an existing file",
        f"{at}'vcpus', row 1: must be a number above 0, got '0' (2 rows)",
        f"{at}'vm_id', row 2: must be unique in its sequence (row 1 has the same), got '0'",
        f"{at}'sequence', row 3: must be a name, got nothing",
        f"{at}'strategy', row 3: must be empty, fault_domain or anti-affinity or affinity, got 'near'",
        f"{at}'memory_gib', row 4: must be a number above 0, got nothing",
        f"{at}'group', row 4: must be given where there is a strategy, and nowhere else, got nothing (2 rows)",
        f"{at}'domain', row 4: must be a whole number from 0 to 19, got '20'",
        f"{at}'domain', row 6: must be empty where the strategy is not fault_domain, got '1'",
        f"{hosts}: column 'host_id', row 2: must be unique, got 'h' in row 1 too",
        f"{hosts}: column 'host_id', row 3: must not be empty",
    ]


def test_sequences_and_columns_that_are_not_there_are_told(given, tmp_path):
    def problems(*arguments, **how):
        with pytest.raises(InputError) as caught:
            fleet.import_topology(tmp_path / "out.parquet", *arguments, **how)
        assert not list(tmp_path.glob("*.parquet"))
        return caught.value.problems

    many = given("many.csv", VMS_HEADER + "".join(f"{name},0,1,1,1,,,\n" for name in "ABCDEF"))
    other = given("other.csv", "Sequence,vm_id,vcpus,memory_gib,numa,strategy,group\nA,0,1,1,1,,\n")
    expected = "must be the topology data's VMs as CSV with the columns " + VMS_HEADER.strip().replace(",", ", ")

    assert problems(None, "c1") == ["sequence: must be one of C1, C2, C3, C4, C5, got 'c1'; did you mean 'C1'?"]
    assert problems(many) == [f"{many}: must have at most 5 sequences, got 6; ask for one"]
    assert problems(other) == [
        f"{other}: {expected}, got no 'sequence'; did you mean 'Sequence'?",
        f"{other}: {expected}, got no 'domain'",
    ]
    assert problems(tmp_path / "x.csv") == [f"{tmp_path}/x.csv: {expected}, got no such file"]
    assert problems(given("none.csv", VMS_HEADER)) == [f"{tmp_path}/none.csv: must hold at least one row, got none"]
    fleet.import_topology(tmp_path / "out.parquet", many, "F")


def test_the_topology_data_ship():
    assert dataset_path(VMS).is_file()
    assert dataset_path(HOSTS).is_file()


# ---- One's own among strangers -------------------------------------------------------------------------------


def rows(path):
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    return pl.concat([pl.read_parquet(file) for file in files], how="diagonal_relaxed")


OWN_VMS = {"vm": ["a", "b", "c"], "region": ["eastus", "eastus", "westus"], "set": ["s", "s", None]}


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_the_union_is_both_fleets(tmp_path, name):
    strangers = pl.DataFrame({"vm": ["x", "y"], "region": ["eastus", "uksouth"], "tier": ["t", None], "cost": [1, 2]})
    own = pl.DataFrame({**OWN_VMS, "update_domain": [0, 1, None], "cost": [0.5, 1.5, 2.5]})
    told = fleet.embed(own, strangers, tmp_path / name)
    made = rows(tmp_path / name)

    assert made.sort("vm").select("vm", "region", "set", "update_domain", "cost", "tier", "owner").rows() == [
        ("a", "eastus", "s", 0, 0.5, None, "own"),
        ("b", "eastus", "s", 1, 1.5, None, "own"),
        ("c", "westus", None, None, 2.5, None, "own"),
        ("x", "eastus", None, None, 1.0, "t", "others"),
        ("y", "uksouth", None, None, 2.0, None, "others"),
    ]
    assert told.notes == ()
    assert told.to_dict() == {
        "fleet": str(tmp_path / name),
        "own_count": 3,
        "others_count": 2,
        "own_ratio": 0.6,
        "regions": {
            "eastus": {"own_count": 2, "others_count": 1, "own_ratio": 2 / 3},
            "uksouth": {"own_count": 0, "others_count": 1, "own_ratio": 0.0},
            "westus": {"own_count": 1, "others_count": 0, "own_ratio": 1.0},
        },
        **{"notes": [], "invented": [], "warnings": []},
    }
    found = fleet.check(tmp_path / name)
    assert (found.vm_count, found.set_count) == (5, 1)
    assert "owner" in found.columns


@pytest.mark.parametrize(
    ("own", "others", "vms", "renamed"),
    [
        ([1, 2], [3, 4], [1, 2, 3, 4], False),
        ([1, 2], [2, 4], ["1", "2", "other-2", "other-4"], True),
        (["a", "2"], [2, 4], ["a", "2", "other-2", "other-4"], True),
        ([1, 2], ["x", "y"], ["1", "2", "other-x", "other-y"], True),
        (["a", "b"], ["c", "A"], ["a", "b", "c", "A"], False),
        (["a", "other-b"], ["a", "b"], ["a", "other-b", "other2-a", "other2-b"], True),
    ],
)
def test_ids_are_kept_apart(tmp_path, own, others, vms, renamed):
    fleets = [{"vm": names, "region": ["eastus"] * 2} for names in (own, others)]
    told = fleet.embed(*map(pl.DataFrame, fleets), tmp_path / "out.parquet")

    assert rows(tmp_path / "out.parquet")["vm"].to_list() == vms
    assert bool(told.notes) == renamed
    assert fleet.check(tmp_path / "out.parquet").vm_count == 4


def test_names_of_sets_and_applications_are_kept_apart_too(tmp_path):
    columns = {"application": ["shop", None, "mail"], "cluster": ["c", "d", "e"], "size": ["D2", "D2", "D2"]}
    others = {
        "vm": ["x", "y", "z"],
        **{name: OWN_VMS[name] for name in ("region", "set")},
        **columns,
        "cluster": ["f"] * 3,
    }
    told = fleet.embed(pl.DataFrame({**OWN_VMS, **columns}), pl.DataFrame(others), tmp_path / "out.parquet")
    made = rows(tmp_path / "out.parquet").filter(pl.col("owner") == "others")

    assert made["vm"].to_list() == ["x", "y", "z"]
    assert made["set"].to_list() == ["other-s", "other-s", None]
    assert made["application"].to_list() == ["other-shop", None, "other-mail"]
    assert (made["cluster"].to_list(), made["size"].to_list()) == (["f"] * 3, ["D2"] * 3)
    assert told.notes == (
        "names in 'set', 'application' of the others begin with 'other-', to keep them apart from one's own",
    )


def test_a_name_met_late_renames_all(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "BATCH_ROWS", 2)
    own = pl.DataFrame({"vm": [7, 8, 9], "region": ["eastus"] * 3})
    others = pl.DataFrame({"vm": [0, 1, 2, 3, 4, 9], "region": ["eastus"] * 6})
    told = fleet.embed(own, others, tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"others-{number:05}.parquet" for number in range(3)),
        *(f"own-{number:05}.parquet" for number in range(2)),
    ]
    assert rows(tmp_path / "out")["vm"].to_list() == [*(f"other-{n}" for n in (0, 1, 2, 3, 4, 9)), "7", "8", "9"]
    assert (told.own_count, told.others_count) == (3, 6)


def test_a_stream_may_be_embedded_even_where_it_is_read_twice(tmp_path):
    own = pa.table({"vm": [1], "region": ["eastus"]})
    others = pa.table({"vm": [1, 2], "region": ["eastus", "eastus"]}).to_reader()
    fleet.embed(own, others, tmp_path / "out.parquet")

    assert rows(tmp_path / "out.parquet")["vm"].to_list() == ["1", "other-1", "other-2"]


def test_an_imported_fleet_among_generated_ones(say, tmp_path):
    fleet.import_inventory(API, tmp_path / "own.parquet")
    fleet.generate(tmp_path / "others", 5000)
    own, out = tmp_path / "own.parquet", tmp_path / "out.parquet"
    code, shown, _ = say("fleet", "embed", own, "--in", tmp_path / "others", "-o", out)
    made, alone = rows(out), rows(own)

    assert code == 0
    assert "VMs      194 own among 5,000, a share of 0.0374\n" in shown
    assert made.filter(pl.col("owner") == "own").select(alone.columns).equals(alone)
    assert fleet.check(out).set_count == 10 + 250


def test_what_was_invented_goes_on(tmp_path):
    sources = [tmp_path / name for name in ("own.parquet", "others.parquet")]
    fleet.import_inventory(API, sources[0], keep_deallocated=True)
    fleet.import_topology(sources[1], sequence="C1")
    told = fleet.embed(*sources, tmp_path / "out.parquet")

    assert {sentence.partition(": ")[0] for sentence in told.invented} == {"own", "others"}
    assert fleet.check(tmp_path / "out.parquet").invented == told.invented


def test_fleets_that_cannot_be_one_are_refused(tmp_path, given):
    own = pl.DataFrame({"vm": ["a"], "region": ["eastus"], "owner": ["me"], "cost": [1], "flag": [True]})
    others = pl.DataFrame({"vm": ["b"], "region": ["eastus"], "cost": ["x"], "flag": ["y"]})
    with pytest.raises(InputError) as caught:
        fleet.embed(own, others, tmp_path / "out.parquet")

    first, cost, flag = caught.value.problems
    assert first == "polars.DataFrame: column 'owner' must not be there, since it is made; rename it"
    assert cost.startswith("column 'cost': must have one type in both fleets, got int64 in polars.DataFrame and ")
    assert flag.startswith("column 'flag': must have one type in both fleets, got bool in ")

    lost = given("lost.csv", "vm,region\na,nowhere\n")
    with pytest.raises(InputError) as caught:
        fleet.embed(lost, others.clear(), tmp_path / "out.parquet")
    assert "must be a known region, got 'nowhere'" in caught.value.problems[0]
    with pytest.raises(InputError) as caught:
        fleet.embed(tmp_path / "a", tmp_path / "b", tmp_path / "out.parquet")
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [str(tmp_path / name) for name in "ab"]
    with pytest.raises(InputError, match="must hold at least one VM, got none"):
        fleet.embed(others, others.clear(), tmp_path / "out.parquet")
    assert {path.name for path in tmp_path.iterdir()} == {"lost.csv"}
