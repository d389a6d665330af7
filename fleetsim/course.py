"""When and under which draws a stage runs."""

import hashlib
from dataclasses import dataclass

import numpy as np

from fleetsim.schema import FIRST_ITERATION, NEVER_MS, Stream


def campaign_key(seed: int, name: str) -> int:
    """Key of a campaign's draws: the seed mixed with a digest of the name, so that other campaigns change nothing."""
    digest = hashlib.sha256(seed.to_bytes(8, "little") + name.encode())
    return int.from_bytes(digest.digest()[:8], "little")


def _address(stream: Stream, iteration: int) -> np.uint64:
    return np.uint64(int(stream) << 26 | iteration << 18)


@dataclass(frozen=True, slots=True)
class Course:
    """When and under which draws a stage runs. Instants in ms since scenario.start.

    key        the campaign's key for draws (`campaign_key`)
    origin_ms  scenario.start, from where instants in files are counted
    region     where it runs: by its longitude people are at work
    until_ms   the end of its scheduled window, by which every unit must have ended; NEVER_MS where it has none
    """

    start_ms: int
    key: int
    origin_ms: int
    iteration: int = FIRST_ITERATION
    replica: int = 0
    until_ms: int = NEVER_MS
    region: str = ""

    def draws(self, stream: Stream) -> tuple[np.uint64, np.uint64, np.uint64]:
        """Key, address and replica as kernels take them."""
        assert 0 < self.iteration < 1 << 8
        return np.uint64(self.key), _address(stream, self.iteration), np.uint64(self.replica)
