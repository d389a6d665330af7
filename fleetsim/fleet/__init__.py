"""Fleets: made, imported, judged and prepared. Names are imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetsim.fleet.azure_inventory import import_inventory as import_inventory
    from fleetsim.fleet.azure_trace import Imported as Imported
    from fleetsim.fleet.azure_trace import import_trace as import_trace
    from fleetsim.fleet.describing import Description as Description
    from fleetsim.fleet.describing import describe as describe
    from fleetsim.fleet.embedding import Embedded as Embedded
    from fleetsim.fleet.embedding import embed as embed
    from fleetsim.fleet.fitting import fits as fits
    from fleetsim.fleet.generating import Generated as Generated
    from fleetsim.fleet.generating import generate as generate
    from fleetsim.fleet.hosting import Hosted as Hosted
    from fleetsim.fleet.hosting import hosts as hosts
    from fleetsim.fleet.huawei import import_topology as import_topology
    from fleetsim.fleet.placing import Placed as Placed
    from fleetsim.fleet.placing import place as place
    from fleetsim.fleet.prepared import PreparedFleet as PreparedFleet
    from fleetsim.fleet.prepared import open_prepared as open_prepared
    from fleetsim.fleet.preparing import Check as Check
    from fleetsim.fleet.preparing import check as check
    from fleetsim.fleet.preparing import prepare as prepare

# No module is called like one of these: importing it would put the module in the place of the function.
_HOMES = {
    "Check": "preparing",
    "Embedded": "embedding",
    "Description": "describing",
    "Generated": "generating",
    "Hosted": "hosting",
    "Imported": "azure_trace",
    "Placed": "placing",
    "PreparedFleet": "prepared",
    "check": "preparing",
    "embed": "embedding",
    "describe": "describing",
    "fits": "fitting",
    "generate": "generating",
    "hosts": "hosting",
    "import_inventory": "azure_inventory",
    "import_topology": "huawei",
    "import_trace": "azure_trace",
    "open_prepared": "prepared",
    "place": "placing",
    "prepare": "preparing",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
