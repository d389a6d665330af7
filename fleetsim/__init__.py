"""fleetsim: a fast, verified simulator of planned maintenance on cloud fleets.

What a command does, one call does here, under the same name: `fleetsim.run`, `fleetsim.verify`, `fleetsim.report`,
`fleetsim.fleet.prepare`, ... Names are imported when first used, so that `import fleetsim` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fleetsim import fleet as fleet
    from fleetsim.comparing import compare as compare
    from fleetsim.errors import FleetsimError as FleetsimError
    from fleetsim.errors import InputError as InputError
    from fleetsim.errors import RunError as RunError
    from fleetsim.figures import read_events as read_events
    from fleetsim.first_run import demo as demo
    from fleetsim.first_run import warmup as warmup
    from fleetsim.foreign import verify_events as verify_events
    from fleetsim.instance_view import status as status
    from fleetsim.lesson import placements as placements
    from fleetsim.loosening import looser as looser
    from fleetsim.page import write_comparison as write_comparison
    from fleetsim.page import write_page as write_page
    from fleetsim.page import write_sweep as write_sweep
    from fleetsim.policies import policy as policy
    from fleetsim.reporting import report as report
    from fleetsim.runner import run as run
    from fleetsim.scenario import load_scenario as load_scenario
    from fleetsim.scenario import presets as presets
    from fleetsim.sweeping import sweep as sweep
    from fleetsim.verifier import verify as verify

# No module is called like one of these: importing it would put the module in the place of the function.
_HOMES = {
    "FleetsimError": "errors",
    "InputError": "errors",
    "RunError": "errors",
    "compare": "comparing",
    "demo": "first_run",
    "load_scenario": "scenario",
    "looser": "loosening",
    "placements": "lesson",
    "policy": "policies",
    "presets": "scenario",
    "read_events": "figures",
    "report": "reporting",
    "run": "runner",
    "status": "instance_view",
    "sweep": "sweeping",
    "verify": "verifier",
    "verify_events": "foreign",
    "warmup": "first_run",
    "write_comparison": "page",
    "write_page": "page",
    "write_sweep": "page",
}

__all__ = ["__version__", "fleet", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"fleetsim.{_HOMES[name]}"), name)
    if name == "fleet":
        return import_module("fleetsim.fleet")
    raise AttributeError(f"module 'fleetsim' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
