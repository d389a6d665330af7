"""Mesa: an agent a set, moved by the events of its discrete-event simulator, since steps of 1 ms would be far slower.

As with SimPy, the collector of cyclic garbage is off meanwhile.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import mesa
from mesa.experimental.devs import DEVSimulator

from benches.campaign import DOMAIN_COUNT, GAP_MS, LENGTH_S, SET_SIZE, Given
from benches.opponents.event_loops import Draw, Impacts, draw_of, no_collector, pairs


class _Fleet(mesa.Model):  # type: ignore[misc]
    """Pairs of regions; the second one of each starts when all sets of the first are through."""

    def __init__(self, vms: int, draw: Draw, simulator: Any) -> None:
        super().__init__(seed=0)
        self.simulator, self.draw = simulator, draw
        self.starts, self.lengths = [0] * vms, [0] * vms
        simulator.setup(self)
        for region, then in pairs(vms):
            self.start(region, then)

    def start(self, region: range, then: range) -> None:
        """Start the sets of *region* now, and those of *then* after it."""
        sets_at_work = [len(region)]

        def done() -> None:
            sets_at_work[0] -= 1
            if not sets_at_work[0] and then:
                self.start(then, range(0))

        for first in region:
            self.simulator.schedule_event_now(_Set(self, first, done).update)


class _Set(mesa.Agent):  # type: ignore[misc]
    """An availability set, by its first VM."""

    def __init__(self, model: _Fleet, first: int, done: Callable[[], None]) -> None:
        super().__init__(model)
        self.first, self.done, self.domain = first, done, 0

    def update(self) -> None:
        """The next domain, or the end."""
        if self.domain == DOMAIN_COUNT:
            self.done()
            return
        fleet, longest, now = self.model, 0, round(self.model.simulator.time)
        for vm in range(self.first + self.domain, self.first + SET_SIZE, DOMAIN_COUNT):
            length = fleet.draw()
            fleet.starts[vm], fleet.lengths[vm] = now, length
            longest = max(longest, length)
        self.domain += 1
        gap = GAP_MS if self.domain < DOMAIN_COUNT else 0
        fleet.simulator.schedule_event_relative(self.update, float(longest + gap))


def sets(given: Given) -> Callable[[], Impacts]:
    """An event a domain, and one for the end of a set."""
    return partial(_sets, given)


@no_collector()
def _sets(given: Given) -> Impacts:
    simulator = DEVSimulator()
    fleet = _Fleet(given.vms, draw_of(given), simulator)
    simulator.run_until(10 * LENGTH_S * 1000)
    return fleet.starts, fleet.lengths
