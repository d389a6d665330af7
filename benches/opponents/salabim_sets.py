"""salabim: a component a set, its process a generator, which is faster than greenlets; nothing traced or monitored.

As with SimPy, the collector of cyclic garbage is off meanwhile.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import salabim as sim

from benches.campaign import DOMAIN_COUNT, GAP_MS, SET_SIZE, Given
from benches.opponents.event_loops import Impacts, draw_of, no_collector, pairs

Process = Generator[Any, Any, None]


def sets(given: Given) -> Callable[[], Impacts]:
    """A process a set, which takes its domains one after the other, and one a pair of regions."""
    return partial(_sets, given)


@no_collector()
def _sets(given: Given) -> Impacts:
    env: Any = sim.Environment(trace=False, random_seed="", set_numpy_random_seed=False, yieldless=False)
    draw = draw_of(given)
    starts, lengths = [0] * given.vms, [0] * given.vms

    class Quiet(sim.Component):  # type: ignore[misc]
        """Without the history of its states, which would grow with every event."""

        def setup(self) -> None:
            self.status.monitor(False)
            self.mode.monitor(False)

    class Pair(Quiet):
        """Its second region starts when the first is through."""

        def process(self, regions: tuple[range, range]) -> Process:
            for region in regions:
                self.sets_at_work = len(region)
                for first in region:
                    Set(pair=self, first=first)
                yield self.passivate()

    class Set(Quiet):
        """An availability set, by its first VM."""

        def process(self, pair: Any, first: int) -> Process:
            for domain in range(DOMAIN_COUNT):
                if domain:
                    yield self.hold(GAP_MS)
                longest = 0
                now = round(env.now())
                for vm in range(first + domain, first + SET_SIZE, DOMAIN_COUNT):
                    length = draw()
                    starts[vm], lengths[vm] = now, length
                    longest = max(longest, length)
                yield self.hold(longest)
            pair.sets_at_work -= 1
            if not pair.sets_at_work:
                pair.activate()

    for regions in pairs(given.vms):
        Pair(regions=regions)
    env.run()
    return starts, lengths
