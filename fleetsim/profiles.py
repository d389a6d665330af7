"""Profiles: how long impacts last, as tables of quantiles in whole milliseconds, compiled in plain Python.

Kernels look lengths up in the tables: no transcendental function runs there, so equal runs are equal bytes on any CPU.
"""

import hashlib
import math
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, cached_property, lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

from fleetsim.schema import LENGTH_MS_MAX

if TYPE_CHECKING:
    import numpy as np

PROFILE_STEPS = 65_536
"""A profile is the quantiles 0 / PROFILE_STEPS .. PROFILE_STEPS / PROFILE_STEPS."""


@dataclass(frozen=True)
class Profile:
    """How long an impact lasts: a distribution, compiled to quantiles in whole milliseconds.

    `given` is the profile as the scenario says it, in one spelling; it determines the rest. The bounds are
    the first and the last entry of the table.
    """

    given: str
    length_ms_min: int
    length_ms_max: int
    # Makes the entries before they are clipped to the bounds; a partial, so that profiles can be pickled.
    _entries: Callable[[], Sequence[int]] = field(repr=False, compare=False)

    @property
    def is_constant(self) -> bool:
        return self.length_ms_min == self.length_ms_max

    @property
    def table(self) -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
        """uint32[PROFILE_STEPS + 1] ms: entry i is the quantile i / PROFILE_STEPS. A new copy each time."""
        import numpy as np

        # Copied, since an array over bytes is read-only: to numba another type, for which it compiles anew.
        return np.frombuffer(self._table_bytes, "<u4").astype(np.uint32)

    @cached_property
    def table_sha256(self) -> str:
        """Digest of the table as little-endian u32, in hex."""
        return hashlib.sha256(self._table_bytes).hexdigest()

    @cached_property
    def _table_bytes(self) -> bytes:
        return _constant_bytes(self.length_ms_min) if self.is_constant else _compiled_bytes(self)


@lru_cache(maxsize=32)
def _compiled_bytes(profile: Profile) -> bytes:
    """The table of *profile*, a quarter of a MB; kept, since sweeps read scenario after scenario that say the same."""
    low, high = profile.length_ms_min, profile.length_ms_max
    entries = array("I", [low if ms < low else high if ms > high else ms for ms in profile._entries()])
    assert len(entries) == PROFILE_STEPS + 1
    assert entries.itemsize == 4
    if sys.byteorder == "big":
        entries.byteswap()
    return entries.tobytes()


@lru_cache(maxsize=64)
def _constant_bytes(length_ms: int) -> bytes:
    """The table of a constant length: scenarios of many campaigns share it."""
    return length_ms.to_bytes(4, "little") * (PROFILE_STEPS + 1)


def constant(length_ms: int) -> Sequence[int]:
    return [length_ms] * (PROFILE_STEPS + 1)


@cache
def _normal_quantiles() -> list[float]:
    """Quantiles 1 .. PROFILE_STEPS - 1 of the standard normal distribution; the outermost are infinite."""
    inverse = NormalDist().inv_cdf
    return [inverse(i / PROFILE_STEPS) for i in range(1, PROFILE_STEPS)]


def lognormal(p50_ms: int, p99_ms: int) -> Sequence[int]:
    sigma, exp = _lognormal_sigma(p50_ms, p99_ms), math.exp
    return [0, *[round(p50_ms * exp(sigma * z)) for z in _normal_quantiles()], LENGTH_MS_MAX]


def _lognormal_sigma(p50_ms: int, p99_ms: int) -> float:
    return math.log(p99_ms / p50_ms) / NormalDist().inv_cdf(0.99)


def lognormal_longest_ms(p50_ms: int, p99_ms: int) -> int:
    """The ceiling where none is said: the quantile 0.9999, rounded half to even."""
    return round(p50_ms * math.exp(_lognormal_sigma(p50_ms, p99_ms) * NormalDist().inv_cdf(0.9999)))


def uniform(min_ms: int, max_ms: int) -> Sequence[int]:
    """Quantiles of the discrete distribution: whole, and all values equally likely, both ends included."""
    count = max_ms - min_ms + 1
    return [min_ms, *[min_ms - 1 - (-count * i // PROFILE_STEPS) for i in range(1, PROFILE_STEPS + 1)]]


def piecewise(points: tuple[tuple[Fraction, int], ...]) -> Sequence[int]:
    """Linear between *points* (quantile, ms), flat outside them; integers only, so that rounding is exact."""
    scale = math.lcm(*[quantile.denominator for quantile, _ in points])
    knots = [(int(quantile * scale) * PROFILE_STEPS, ms) for quantile, ms in points]
    entries: list[int] = []
    right = 0
    for i in range(PROFILE_STEPS + 1):
        at = i * scale
        while right < len(knots) and knots[right][0] < at:
            right += 1
        if right == 0 or right == len(knots):
            entries.append(knots[min(right, len(knots) - 1)][1])
            continue
        (left_at, left_ms), (right_at, right_ms) = knots[right - 1 : right + 1]
        width = right_at - left_at
        entries.append(_rounded_ratio(left_ms * width + (right_ms - left_ms) * (at - left_at), width))
    return entries


def _rounded_ratio(numerator: int, denominator: int) -> int:
    """numerator / denominator, rounded half to even; requires denominator > 0."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))
