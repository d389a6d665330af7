"""One small estate of 200 VMs, written as each of those forms in which inventories come.

`python -m tests.inventories.make` writes the fixtures beside this file anew, and the example in `datasets`. Names are
spelt as the API spells them (Microsoft.Compute, 2024-07-01): groups of availability sets in capitals, for one.
"""

import csv
import io
import json
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EXAMPLE = HERE.parent.parent / "datasets" / "examples" / "inventory"
SUBSCRIPTION = "6b1f6471-0000-4000-8000-{:012}"
API = "https://management.azure.com{}?api-version=2024-07-01&$skiptoken={}"
DISPLAY_NAMES = {
    "westeurope": "West Europe",
    "northeurope": "North Europe",
    "eastus": "East US",
    "westus": "West US",
    "uksouth": "UK South",
    "ukwest": "UK West",
}
AVAILABILITY_SET, FLEXIBLE, UNIFORM, ZONAL, NONE = "availability_set", "flexible", "uniform", "zonal", "none"
PAGE_VMS = 80


@dataclass(frozen=True)
class Group:
    """VMs of one application and tier in one region: a set, or VMs in none."""

    application: str
    tier: str
    workload: str
    region: str
    kind: str
    count: int
    size: str
    deallocated: tuple[int, ...] = ()
    stopped: tuple[int, ...] = ()


ESTATE = (
    Group("shop", "web", "web", "westeurope", AVAILABILITY_SET, 12, "Standard_D4s_v3", stopped=(3,)),
    Group("shop", "web", "web", "northeurope", AVAILABILITY_SET, 12, "Standard_D4s_v3", deallocated=(11,)),
    Group("shop", "db", "database", "westeurope", AVAILABILITY_SET, 6, "Standard_E16s_v3"),
    Group("shop", "db", "database", "northeurope", AVAILABILITY_SET, 6, "Standard_E16s_v3"),
    Group("shop", "search", "search", "westeurope", ZONAL, 18, "Standard_E8s_v3"),
    Group("billing", "api", "web", "eastus", FLEXIBLE, 20, "Standard_D2s_v3", deallocated=(4, 5)),
    Group("billing", "api", "web", "westus", FLEXIBLE, 20, "Standard_D2s_v3"),
    Group("billing", "ledger", "database", "eastus", NONE, 2, "Standard_M64s"),
    Group("billing", "ledger", "database", "westus", NONE, 2, "Standard_M64s", stopped=(1,)),
    Group("reports", "batch", "batch", "westeurope", UNIFORM, 40, "Standard_F8s_v2"),
    Group("reports", "batch", "batch", "eastus", UNIFORM, 30, "Standard_F8s_v2", deallocated=(28, 29)),
    Group("reports", "train", "training", "eastus", NONE, 4, "Standard_NC6s_v3", deallocated=(3,)),
    Group("calls", "edge", "real-time", "uksouth", AVAILABILITY_SET, 10, "Standard_F4s_v2", stopped=(0,)),
    Group("calls", "edge", "real-time", "ukwest", AVAILABILITY_SET, 10, "Standard_F4s_v2"),
    Group("calls", "record", "storage", "uksouth", NONE, 4, "Standard_L8s_v2", stopped=(2,)),
    Group("", "", "", "northeurope", NONE, 4, "Standard_D2xs_v9"),
)
"""Sizes that cannot keep their memory: M, NC, L. One size is in no catalogue; its VMs have no tags."""


@dataclass(frozen=True)
class Vm:
    """One VM of the estate; domains as the platform deals them, while it is on a host."""

    group: Group
    number: int
    subscription: str

    @property
    def name(self) -> str:
        group = self.group
        if group.kind == UNIFORM:
            return f"{group.tier}_{self.number}"
        return f"{group.application or 'spare'}-{group.tier or 'vm'}-{self.number}"

    def resource(self, kind: str, name: str) -> str:
        """Id of a resource in the VM's group of resources."""
        resource_group = f"rg-{self.group.application or 'lab'}-{self.group.region}"
        above = f"/subscriptions/{self.subscription}/resourceGroups/{resource_group}"
        return f"{above}/providers/Microsoft.Compute/{kind}/{name}"

    @property
    def id(self) -> str:
        if self.group.kind == UNIFORM:
            return f"{self.resource('virtualMachineScaleSets', self.group.tier)}/virtualMachines/{self.number}"
        return self.resource("virtualMachines", self.name)

    @property
    def power(self) -> str:
        if self.number in self.group.deallocated:
            return "deallocated"
        return "stopped" if self.number in self.group.stopped else "running"

    def described(self) -> dict[str, Any]:
        """The VM's own `properties`."""
        group = self.group
        found: dict[str, Any] = {"vmId": str(uuid.uuid5(uuid.NAMESPACE_URL, self.id)), "provisioningState": "Succeeded"}
        if group.kind == AVAILABILITY_SET:
            found["availabilitySet"] = {"id": _shouted(self.resource("availabilitySets", group.tier.upper()))}
        elif group.kind == FLEXIBLE:
            found["virtualMachineScaleSet"] = {"id": self.resource("virtualMachineScaleSets", group.tier)}
        if group.kind == UNIFORM:
            found |= {"latestModelApplied": True, "modelDefinitionApplied": "VirtualMachineScaleSet"}
        else:
            found["hardwareProfile"] = {"vmSize": group.size}
        found["storageProfile"] = {"osDisk": {"osType": "Linux", "name": f"{self.name}-os", "diskSizeGB": 30}}
        found["osProfile"] = {"computerName": self.name, "adminUsername": "ops"}
        if group.kind != UNIFORM:
            found["timeCreated"] = "2024-03-05T09:12:44.1234567+00:00"
        return found

    def view(self) -> dict[str, Any]:
        """The VM's `instanceView`: no domains while it is on no host; flexible scale sets have no update domains."""
        kind, found = self.group.kind, {}
        if self.power != "deallocated" and kind in (AVAILABILITY_SET, UNIFORM):
            found["platformUpdateDomain"] = self.number % 5
        if self.power != "deallocated" and kind in (AVAILABILITY_SET, FLEXIBLE, UNIFORM):
            found["platformFaultDomain"] = self.number % (5 if kind == UNIFORM else 3)
        if kind == UNIFORM:
            found["placementGroupId"] = str(uuid.uuid5(uuid.NAMESPACE_URL, self.group.region))
        shown = f"VM {self.power}"
        found["statuses"] = [
            {"code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Provisioning succeeded"},
            {"code": f"PowerState/{self.power}", "level": "Info", "displayStatus": shown},
        ]
        return found

    def outline(self) -> dict[str, Any]:
        """What stands beside the `properties`."""
        group = self.group
        found: dict[str, Any] = {"name": self.name, "id": self.id, "type": "Microsoft.Compute/virtualMachines"}
        if group.kind == UNIFORM:
            found["type"] = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines"
            found |= {"instanceId": str(self.number), "sku": {"name": group.size, "tier": "Standard"}}
        found["location"] = group.region
        if group.application:
            found["tags"] = {"app": group.application, "tier": group.tier, "workload": group.workload}
        if group.kind == ZONAL:
            found["zones"] = [str(self.number % 3 + 1)]
        return found


def estate(subscription: int = 0) -> list[Vm]:
    """The 200 VMs, in *subscription*."""
    owner = SUBSCRIPTION.format(subscription)
    return [Vm(group, number, owner) for group in ESTATE for number in range(group.count)]


def forms(vms: list[Vm]) -> Iterator[tuple[str, str]]:
    """Path and text of each file that tells of *vms*."""
    plain = [vm for vm in vms if vm.group.kind != UNIFORM]
    uniform: dict[str, list[Vm]] = {}
    for vm in vms:
        if vm.group.kind == UNIFORM:
            uniform.setdefault(vm.group.region, []).append(vm)

    # The API: two calls of "List All", in pages, and one call a uniform scale set.
    models = [{**vm.outline(), "properties": vm.described()} for vm in plain]
    statuses = [_status(vm) for vm in plain]
    for call, items in (("vms", models), ("status", statuses)):
        for page, start in enumerate(range(0, len(items), PAGE_VMS)):
            is_last = start + PAGE_VMS >= len(items)
            link = None if is_last else API.format(plain[0].resource("virtualMachines", "")[:-1], page + 1)
            yield f"api/{call}-{page + 1}.json", _page(items[start : start + PAGE_VMS], link)
    for region, members in uniform.items():
        items = [{**vm.outline(), "properties": {**vm.described(), "instanceView": vm.view()}} for vm in members]
        yield f"api/batch-{region}.json", _page(items, None)

    # az flattens `properties`; `az vm list` prints null for the view that `az vm get-instance-view` has.
    flat = [{**vm.outline(), **vm.described(), "instanceView": None} for vm in plain]
    yield "az/vm-list.json", _array(flat)
    viewed = [{**item, "instanceView": vm.view()} for item, vm in zip(flat, plain, strict=True)]
    yield "az/vm-get-instance-view.json", _array(viewed)
    for region, members in uniform.items():
        items = [{**vm.outline(), **vm.described(), "instanceView": vm.view()} for vm in members]
        yield f"az/vmss-list-instances-{region}.json", _array(items)

    # Somebody's own: a line a VM, and a spreadsheet.
    rows = [_row(vm) for vm in vms]
    yield "own/vms.jsonl", "".join(f"{json.dumps(_nested(row))}\n" for row in rows)
    text = io.StringIO()
    lines = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    yield "own/vms.csv", text.getvalue()


def write(folder: Path, vms: list[Vm] | None = None) -> None:
    """Write every form of *vms* (default: the estate) below *folder*."""
    for path, text in forms(estate() if vms is None else vms):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")


def _status(vm: Vm) -> dict[str, Any]:
    """What statusOnly=true tells; its ids are spelt otherwise than those of the other call."""
    outline = {key: value for key, value in vm.outline().items() if key in ("name", "id", "type", "location")}
    described = {"vmId": vm.described()["vmId"], "instanceView": vm.view()}
    return {**outline, "id": _shouted(vm.id), "properties": described}


def _row(vm: Vm) -> dict[str, Any]:
    described, view = vm.described(), vm.view()
    in_set = described.get("availabilitySet") or described.get("virtualMachineScaleSet") or {}
    set_id = vm.id.partition("/virtualMachines/")[0] if vm.group.kind == UNIFORM else in_set.get("id", "")
    return {
        "Resource": vm.id,
        "Location": DISPLAY_NAMES[vm.group.region],
        "Set": set_id,
        "UD": view.get("platformUpdateDomain", ""),
        "FD": view.get("platformFaultDomain", ""),
        "Zone": vm.outline().get("zones", [""])[0],
        "Size": vm.group.size,
        "Status": "Stopped (deallocated)" if vm.power == "deallocated" else vm.power.capitalize(),
        "App": vm.group.application,
        "Workload": vm.group.workload,
    }


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """*row* as objects in objects, without what is empty."""
    filled = {key: value for key, value in row.items() if value != ""}
    domains = {key: filled.pop(key) for key in ("UD", "FD") if key in filled}
    return {**filled, "placement": {"domains": domains}}


def _shouted(resource: str) -> str:
    """*resource* with its group in capitals, as some calls return it."""
    head, mark, tail = resource.partition("/resourceGroups/")
    group, slash, rest = tail.partition("/")
    return f"{head}{mark}{group.upper()}{slash}{rest}"


def _page(items: list[dict[str, Any]], link: str | None) -> str:
    ending = "" if link is None else f',\n"nextLink": {json.dumps(link)}'
    return f'{{"value": {_array(items).rstrip()}{ending}}}\n'


def _array(items: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(item, separators=(",", ":")) for item in items) + "\n]\n"


if __name__ == "__main__":
    if sys.argv[1:]:
        raise SystemExit("usage: python -m tests.inventories.make")
    write(HERE)
    EXAMPLE.mkdir(parents=True, exist_ok=True)
    for made in sorted((HERE / "api").iterdir()):
        (EXAMPLE / made.name).write_bytes(made.read_bytes())
