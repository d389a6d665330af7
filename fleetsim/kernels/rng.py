"""Addressed random numbers: a draw belongs to (seed and campaign; entity, stream, iteration, number; replica).

Philox4x32-10 (Salmon et al., SC'11, "Parallel random numbers: as easy as 1, 2, 3"), a keyed bijection: distinct
addresses cannot collide, and no thread, block or order of rows can change a draw. Words are 32 bits wide in uint64
registers, so that products need no carry.
"""

import numpy as np

from fleetsim.kernels.jit import inlined, kernel

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)


@inlined
def philox(key_0, key_1, word_0, word_1, word_2, word_3):
    """Ten rounds of Philox4x32 on uint64 scalars below 2^32. Returns the four words."""
    for _ in range(10):
        product_0 = _MULTIPLIER_0 * word_0
        product_1 = _MULTIPLIER_1 * word_2
        word_0 = (product_1 >> _32) ^ word_1 ^ key_0
        word_1 = product_1 & _LOW
        word_2 = (product_0 >> _32) ^ word_3 ^ key_1
        word_3 = product_0 & _LOW
        key_0 = (key_0 + _WEYL_0) & _LOW
        key_1 = (key_1 + _WEYL_1) & _LOW
    return word_0, word_1, word_2, word_3


@inlined
def draw64(key, entity_key, address, replica):
    """The draw at (*entity_key*, *address*, *replica*): 64 bits.

    key         uint64  campaign key (`campaign_key`)
    entity_key  uint64  key of the VM, set or host
    address     uint64  stream << 26 | iteration << 18 | number of the draw
    """
    word_0, word_1, _, _ = philox(key & _LOW, key >> _32, entity_key & _LOW, entity_key >> _32, address, replica)
    return word_1 << _32 | word_0


@inlined
def scaled(draw, bound):
    """floor(draw * bound / 2^64): an integer in [0, bound), for uint64 *draw* and *bound*."""
    # The high word of a 64 x 64 product, from 32-bit halves: no 128-bit integers in numba.
    draw_low, draw_high = draw & _LOW, draw >> _32
    bound_low, bound_high = bound & _LOW, bound >> _32
    carry = (draw_low * bound_low) >> _32
    middle_0 = draw_high * bound_low + carry
    middle_1 = draw_low * bound_high + (middle_0 & _LOW)
    return draw_high * bound_high + (middle_0 >> _32) + (middle_1 >> _32)


@kernel
def fill_draws(key, address, replica, entity_key, out):
    """One draw an entity: entity_key int64[E] -> out uint64[E]."""
    for row in range(entity_key.shape[0]):
        out[row] = draw64(key, np.uint64(entity_key[row]), address, replica)


@kernel
def digest_strings(offsets, characters, out):
    """64-bit keys of strings: FNV-1a over UTF-8 bytes.

    Reads   offsets     int32|int64[N+1]  cut points of *characters*
            characters  uint8[]           the strings, one after another
    Writes  out         int64[N]          keys (two's complement)
    """
    for row in range(out.shape[0]):
        digest = _FNV_OFFSET
        for position in range(offsets[row], offsets[row + 1]):
            digest = (digest ^ np.uint64(characters[position])) * _FNV_PRIME
        out[row] = np.int64(digest)
