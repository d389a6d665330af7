"""Sets of small numbers as bits, with bits over them that tell which words are not empty.

The next member from any number on is found in as many steps as there are levels, one for each factor of 64: a priority
queue of ranks, or one for each range of them, that costs a few nanoseconds a step and an eighth of a byte a number.
"""

import numpy as np

from fleetsim.kernels.jit import kernel, trailing_zeros

NONE = -1
_ONE = np.uint64(1)


def level_offsets(count: int) -> np.ndarray:
    """Where the words of each level begin in an array for the numbers 0 .. count - 1, and where the last ends."""
    offsets = [0]
    while True:
        count = (count + 63) // 64
        offsets.append(offsets[-1] + max(count, 1))
        if count <= 1:
            return np.array(offsets, np.int64)


@kernel
def add(words, levels, number):
    """Put *number* into the set: words uint64[], levels from `level_offsets`."""
    for level in range(levels.shape[0] - 1):
        place = levels[level] + (number >> 6)
        before = words[place]
        words[place] = before | (_ONE << np.uint64(number & 63))
        if before:
            return
        number >>= 6


@kernel
def remove(words, levels, number):
    """Take *number*, which is in it, out of the set."""
    for level in range(levels.shape[0] - 1):
        place = levels[level] + (number >> 6)
        words[place] &= ~(_ONE << np.uint64(number & 63))
        if words[place]:
            return
        number >>= 6


@kernel
def first_from(words, levels, number):
    """The smallest member from *number* on, NONE where there is none."""
    level = 0
    while level < levels.shape[0] - 1:
        place = levels[level] + (number >> 6)
        if place >= levels[level + 1]:
            return NONE
        rest = words[place] >> np.uint64(number & 63)
        if rest:
            number += trailing_zeros(rest)
            while level:
                level -= 1
                number = (number << 6) + trailing_zeros(words[levels[level] + number])
            return number
        number = (number >> 6) + 1
        level += 1
    return NONE
