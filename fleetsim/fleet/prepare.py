"""Former place of `preparing` and `prepared`."""

from fleetsim.fleet.prepared import PreparedFleet, PreparedPart, PreparedRegion, open_prepared
from fleetsim.fleet.preparing import Check, check, prepare

__all__ = ["Check", "PreparedFleet", "PreparedPart", "PreparedRegion", "check", "open_prepared", "prepare"]
