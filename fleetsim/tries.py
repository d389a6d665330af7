"""Tries: how often the platform starts a VM's maintenance in its window until that succeeds (semantics.md 33).

A VM that is tried again is down all the while: to whatever waits for it, and to all that is counted, its tries are one
impact. They are told apart only in `events`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetsim.blocks import Block, Bools, Int64s, Scope, frozen
from fleetsim.course import Course
from fleetsim.kernels import impact
from fleetsim.schema import Stream

_RATIO_BITS = 63


@dataclass(frozen=True, slots=True)
class Tries:
    """The tries that impacts are made of, one after the other; H impacts, T tries."""

    offsets: Int64s  # [H+1] tries of each impact
    duration_ms: npt.NDArray[np.uint32]  # [T]
    is_aborted: Bools  # [T]

    @property
    def counts(self) -> Int64s:
        """[H] tries of each impact."""
        counts: Int64s = np.diff(self.offsets)
        return counts

    def starts_ms(self, start_ms: Int64s) -> Int64s:
        """int64[T]: when each starts, of impacts that start at *start_ms* int64[H]."""
        before_ms = np.cumsum(self.duration_ms, dtype=np.int64) - self.duration_ms
        of_impact = before_ms[self.offsets[:-1]] if len(before_ms) else before_ms
        starts_ms: Int64s = before_ms + np.repeat(start_ms - of_impact, self.counts)
        return starts_ms

    @property
    def has_aborted(self) -> Bools:
        """[H] whether some try of it has failed."""
        if not len(self.duration_ms):
            return np.zeros(len(self.offsets) - 1, np.bool_)
        return np.logical_or.reduceat(self.is_aborted, self.offsets[:-1])

    @property
    def ends_aborted(self) -> Bools:
        """[H] whether its last try has failed."""
        return self.is_aborted[self.offsets[1:] - 1]

    def within(self, hits: slice) -> "Tries":
        """Those of some impacts that follow one another."""
        offsets = self.offsets[hits.start : hits.stop + 1]
        tries = slice(offsets[0], offsets[-1])
        return Tries(offsets - offsets[0], self.duration_ms[tries], self.is_aborted[tries])


@dataclass(frozen=True, slots=True)
class Attempted:
    """VMs that are tried until they are updated, or have failed; V of them."""

    vm_key: Int64s  # [V]
    profile: npt.NDArray[np.uint8]  # [V] row in the table of profiles
    count: Int64s  # [V] tries, if nobody is deleted meanwhile
    is_failed: Bools  # [V]

    def of(self, chosen: Bools | Int64s) -> "Attempted":
        """Those *chosen*."""
        return Attempted(self.vm_key[chosen], self.profile[chosen], self.count[chosen], self.is_failed[chosen])

    def tries(self, scope: Scope, course: Course, duration_ms: npt.NDArray[np.uint32]) -> Tries:
        """Their tries as far as VMs stayed: *duration_ms* uint32[V] is how long each was down."""
        key, address, replica = course.draws(Stream.LENGTH)
        try_count = int(self.count.sum())
        offsets = np.empty(len(self.vm_key) + 1, np.int64)
        try_ms, is_aborted = np.empty(try_count, np.uint32), np.empty(try_count, np.bool_)
        impact.split_tries(
            key, address, replica, scope.quantiles_ms, frozen(self.profile), frozen(self.vm_key), duration_ms,
            self.count, self.is_failed, offsets, try_ms, is_aborted,
        )  # fmt: skip
        return Tries(offsets, try_ms[: offsets[-1]], is_aborted[: offsets[-1]])


def attempt(
    block: Block,
    scope: Scope,
    course: Course,
    profile: npt.NDArray[np.uint8] | None,
    duration_ms: npt.NDArray[np.uint32],
) -> Attempted | None:
    """Draw the tries of *block*; *duration_ms* uint32[V], of the first ones, becomes that of all. None: none can fail.

    *profile* uint8[V] is the row of each VM in the table of profiles, None for the first.
    """
    failing = scope.campaign.tries
    if failing is None:
        return None
    vm_count = len(block.vm_key)
    profile = np.zeros(vm_count, np.uint8) if profile is None else profile
    count, is_failed = np.empty(vm_count, np.int64), np.empty(vm_count, np.bool_)
    key, length_address, replica = course.draws(Stream.LENGTH)
    _, try_address, _ = course.draws(Stream.TRY)
    failure = failing.failure
    impact.draw_tries(
        key, length_address, try_address, replica,
        np.uint64((failure.numerator << _RATIO_BITS) // failure.denominator), failing.retry_timeout_ms,
        scope.quantiles_ms, frozen(profile), block.vm_key, duration_ms, count, is_failed,
    )  # fmt: skip
    return Attempted(block.vm_key, profile, count, is_failed)
