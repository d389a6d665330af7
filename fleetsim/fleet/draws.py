"""Draws that make fleets: addressed like those of runs (semantics.md 4), under a key of their own.

No floating point decides: weights are exact fractions and thresholds are integers.
"""

import hashlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from fleetsim.errors import InputError
from fleetsim.kernels.rng import fill_draws
from fleetsim.schema import Stream


def fleet_key(seed: int) -> int:
    """Key of a fleet's draws: a digest of the seed and the word fleet."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 64:
        raise InputError(f"seed: must be a whole number from 0 to 2^64 - 1, got '{seed}'")
    return int.from_bytes(hashlib.sha256(seed.to_bytes(8, "little") + b"fleet").digest()[:8], "little")


def drawn_codes(
    key: int, stream: Stream, entity_key: npt.NDArray[np.int64], weights: Sequence[Fraction | int]
) -> npt.NDArray[np.int64]:
    """For each entity the position of one of *weights*, as often as it weighs."""
    draws = np.empty(len(entity_key), np.uint64)
    fill_draws(np.uint64(key), np.uint64(stream << 26), np.uint64(0), entity_key, draws)
    total, reached, thresholds = sum(weights), Fraction(0), []
    for weight in weights[:-1]:
        reached += Fraction(weight)
        thresholds.append(int(reached / total * (1 << 64)))  # the first draw of the next weight
    return np.searchsorted(np.array(thresholds, np.uint64), draws, side="right")
