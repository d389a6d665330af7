"""Kernels alone: published vectors, exact arithmetic, edges of tables and bins."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim import course, engine
from fleetsim.blocks import Block, Scope, Vms, frozen
from fleetsim.engine import Sums
from fleetsim.kernels import bits, impact, rng, stretches
from fleetsim.kernels.jit import kernel
from fleetsim.scenario import load_scenario
from fleetsim.schema import Stream
from tests import oracle

WORDS = st.integers(0, 2**32 - 1)
KEYS = st.integers(0, 2**64 - 1)


@kernel
def philox_words(words):
    return rng.philox(words[0], words[1], words[2], words[3], words[4], words[5])


@kernel
def scaled(draw, bound):
    return rng.scaled(draw, bound)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        # Random123, kat_vectors: philox4x32-10 of counters and keys that are all zeros, all ones.
        (0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (2**32 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_philox_known_answers(word, expected):
    assert tuple(map(int, philox_words(np.full(6, word, np.uint64)))) == expected


def test_philox_known_answer_of_distinct_words():
    # Random123, kat_vectors: digits of pi as counter and key.
    counter = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    words = np.array((0xA4093822, 0x299F31D0, *counter), np.uint64)

    assert tuple(map(int, philox_words(words))) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


@given(KEYS, st.one_of(KEYS, st.sampled_from([0, 1, 2, 2**32 - 1, 2**32, 2**64 - 1])))
def test_scaled_is_the_high_word_of_the_product(draw, bound):
    assert int(scaled(np.uint64(draw), np.uint64(bound))) == draw * bound >> 64


@pytest.mark.parametrize(
    ("text", "digest"),
    [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)],
)
def test_fnv_known_answers(text, digest):
    out = np.empty(1, np.int64)
    rng.digest_strings(np.array([0, len(text)], np.int32), np.frombuffer(text.encode() or b"\0", np.uint8), out)

    assert int(out[0]) & (2**64 - 1) == digest


def test_the_campaign_key_mixes_seed_and_name():
    digest = hashlib.sha256((7).to_bytes(8, "little") + b"hypervisor").digest()

    assert course.campaign_key(7, "hypervisor") == int.from_bytes(digest[:8], "little")
    assert course.campaign_key(8, "hypervisor") != course.campaign_key(7, "hypervisor")
    assert course.campaign_key(7, "hypervisors") != course.campaign_key(7, "hypervisor")


def test_lengths_reach_both_ends_of_the_table():
    """Entries 0 and 65,536 bound every length; the interpolation rounds to the nearest."""
    table = np.linspace(1, 4_233_600_000, 65_537).astype(np.uint32)
    vm_key = np.arange(200_000, dtype=np.int64)
    lengths = np.empty(len(vm_key), np.uint32)
    key = np.uint64(course.campaign_key(3, "hypervisor"))
    impact.draw_lengths(key, np.uint64(1 << 18), np.uint64(0), table, vm_key, lengths)

    draws = [oracle.draw64(3, "hypervisor", vm, Stream.LENGTH) for vm in range(50)]
    for draw, length in zip(draws, lengths, strict=False):
        entry, fraction = draw >> 48, draw >> 32 & 0xFFFF
        lower, upper = int(table[entry]), int(table[entry + 1])
        assert int(length) == lower + (((upper - lower) * fraction + 32768) >> 16)
    assert lengths.min() >= table[0]
    assert lengths.max() <= table[-1]


@given(st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 126, 127, 128, 129, 255, 256, 2**31, 2**32 - 1])))
def test_a_length_is_counted_in_its_bin(length_ms):
    histogram = np.zeros(impact.HISTOGRAM_BIN_COUNT, np.int64)
    impact.tally_lengths(np.array([length_ms], np.uint32), histogram)
    (position,) = np.flatnonzero(histogram)

    shift = max(length_ms.bit_length() - 7, 0)
    assert engine.histogram_bin_starts_ms()[position] == length_ms >> shift << shift


def test_bins_rise_without_overlap():
    assert (np.diff(engine.histogram_bin_starts_ms()) > 0).all()


def block_of(unit_sizes: list[list[int]], single_count: int, first_vm: int = 0, first_set: int = 0) -> Block:
    """Sets whose domains have so many VMs, and singles; keys rise."""
    sizes = np.array([size for of_set in unit_sizes for size in of_set], np.int64)
    set_offsets = np.cumsum([0, *map(len, unit_sizes)])
    set_key = np.arange(len(unit_sizes)) + first_set
    return Block(
        vm_key=frozen(np.arange(int(sizes.sum()) + single_count) + first_vm),
        set_offsets=frozen(set_offsets),
        set_key=frozen(set_key),
        unit_set_key=frozen(np.repeat(set_key, np.diff(set_offsets))),
        domain=frozen(np.array([domain for of_set in unit_sizes for domain in range(len(of_set))], np.uint8)),
        unit_offsets=frozen(np.concatenate([[0], np.cumsum(sizes)])),
    )


def test_of_sets_that_end_together_the_first_is_named():
    """Two sets of one VM and two singles, all back at the same instant: ties go to the first row."""
    (campaign,) = load_scenario(
        'name = "ties"\nstart = 2026-12-01T00:00:00Z\n[[campaign]]\nname = "ties"\nlength = "30s"\n'
    ).campaigns
    scope, course = Scope(campaign), engine.Course(start_ms=5, key=1, origin_ms=0)
    sums = engine.advance(Vms(block_of([[1], [1]], 2)), scope, course).sums
    assert (sums.end_ms, sums.last_vm_row) == (30_005, 0)

    only_singles = block_of([], 4)
    later = engine.advance(Vms(only_singles), scope, course).sums
    assert later.last_vm_row == 0
    later.last_vm_row = 200
    sums.add(later)
    assert sums.last_vm_row == 0


@pytest.mark.parametrize("length", ['"30s"', '{ p50 = "6s", p99 = "9s" }'])
@pytest.mark.parametrize("order", ["sequential", "random"])
def test_a_block_of_several_stretches_is_as_its_sets_are_alone(length, order):
    (campaign,) = load_scenario(
        'name = "long"\nstart = 2026-12-01T00:00:00Z\n[[campaign]]\nname = "long"\nspread = "3h"\n'
        f'length = {length}\nupdate_domain_order = "{order}"\n'
    ).campaigns
    scope, course = Scope(campaign), engine.Course(start_ms=5, key=1, origin_ms=10**12)
    # Of one VM or domain, of uneven domains, one that is longer than a stretch, and some after it.
    unit_sizes = [
        [1],
        [2],
        [3, 1, 4],
        [stretches.STRETCH_VMS - 20, 9],
        [2, 1],
        [stretches.STRETCH_VMS + 3],
        [5, 5, 5],
        [1],
    ]

    whole = engine.advance(Vms(block_of(unit_sizes, 3)), scope, course)
    start_ms, duration_ms = whole.start_at_ms.copy(), whole.duration_ms.copy()
    sums, row = Sums(), 0
    for place, of_set in enumerate(unit_sizes):
        alone = engine.advance(Vms(block_of([of_set], 0, row, place)), scope, course)
        assert alone.start_at_ms.tolist() == start_ms[row : row + sum(of_set)].tolist()
        assert alone.duration_ms.tolist() == duration_ms[row : row + sum(of_set)].tolist()
        alone.sums.last_vm_row += row
        sums.add(alone.sums)
        row += sum(of_set)
    alone = engine.advance(Vms(block_of([], 3, row)), scope, course)
    assert alone.start_at_ms.tolist() == start_ms[row:].tolist()
    alone.sums.last_vm_row += row
    sums.add(alone.sums)
    for name in Sums.__slots__:
        assert np.array_equal(getattr(whole.sums, name), getattr(sums, name)), name
    assert whole.sums.no_guarantee_counts.sum() == 4


@pytest.mark.parametrize("count", [1, 64, 65, 4_096, 4_097, 300_000])
@given(data=st.data())
def test_bits_are_a_set_of_numbers(count, data):
    numbers = st.sampled_from([0, count // 64 * 64, count // 4_096 * 4_096, count - 1]) | st.integers(0, count - 1)
    numbers = numbers.filter(lambda number: number < count)
    levels, expected = bits.level_offsets(count), set()
    words = np.zeros(levels[-1], np.uint64)
    for number in data.draw(st.lists(numbers, max_size=30)):
        (bits.remove if number in expected else bits.add)(words, levels, number)
        expected ^= {number}
    for number in [*data.draw(st.lists(numbers, max_size=10)), 0, count]:
        later = [member for member in expected if member >= number]
        assert bits.first_from(words, levels, number) == min(later, default=bits.NONE)
    for number in expected:
        bits.remove(words, levels, number)
    assert not words.any()


def test_blocks_add_up_whom_a_freeze_reboots():
    """Those of the first block, of the second, and of both."""
    first, second, third = Sums(), Sums(), Sums()
    second.reboot_histogram = np.ones_like(second.histogram)
    third.reboot_histogram = 2 * np.ones_like(third.histogram)

    for block in (second, third, Sums()):
        first.add(block)

    assert first.reboot_histogram is not None
    assert (first.reboot_histogram == 3).all()
