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

Draws = npt.NDArray[np.uint64]


def fleet_key(seed: int, of: str = "") -> int:
    """Key of a fleet's draws: a digest of the seed, the word fleet, and what the draws are *of*."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 64:
        raise InputError(f"seed: must be a whole number from 0 to 2^64 - 1, got '{seed}'")
    digest = hashlib.sha256(seed.to_bytes(8, "little") + b"fleet" + of.encode())
    return int.from_bytes(digest.digest()[:8], "little")


def draws_of(key: int, stream: Stream, entity_key: npt.NDArray[np.int64]) -> Draws:
    """For each entity its 64 bits in *stream*."""
    draws = np.empty(len(entity_key), np.uint64)
    fill_draws(np.uint64(key), np.uint64(stream << 26), np.uint64(0), entity_key, draws)
    return draws


def thresholds(weights: Sequence[Fraction | int]) -> Draws:
    """The first draw of each weight but the first: of equally likely draws, each gets as many as it weighs."""
    total, reached, first = sum(weights), Fraction(0), []
    for weight in weights[:-1]:
        reached += Fraction(weight)
        first.append(int(reached / total * (1 << 64)))
    return np.array(first, np.uint64)


def picked(draws: Draws, first: Draws) -> npt.NDArray[np.int64]:
    """For each draw the position of its weight; *first* as `thresholds` gives them."""
    return np.searchsorted(first, draws, side="right")


def below(draws: Draws, bounds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each draw an integer in [0, bound), floor(draw x bound / 2^64); bounds are below 2^32."""
    high, low, bound = draws >> np.uint64(32), draws & np.uint64(0xFFFFFFFF), bounds.astype(np.uint64)
    return ((high * bound + (low * bound >> np.uint64(32))) >> np.uint64(32)).astype(np.int64)


def drawn_codes(
    key: int, stream: Stream, entity_key: npt.NDArray[np.int64], weights: Sequence[Fraction | int]
) -> npt.NDArray[np.int64]:
    """For each entity the position of one of *weights*, as often as it weighs."""
    return picked(draws_of(key, stream, entity_key), thresholds(weights))
