"""Hosts in an order, and what each has left: the first of them with room is found by a tree of maxima over it.

Node 1 is the root; the leaves, one a host, are the nodes from `leaf_count` on. `most` is int64[2 * leaf_count, 2], of
vCPUs and memory in millionths: of node n the larger of 2n and 2n + 1, each of the two for itself.
"""

import numpy as np

from fleetsim.kernels.jit import kernel

MILLION = 1_000_000
NO_LIMIT = 1 << 62
"""Room of a host that says nothing of a resource."""
NONE = -1
"""Room of a leaf that is no host, or of a host that nobody may go to: less than any VM takes."""


def millionths(amounts: np.ndarray) -> np.ndarray:
    """float64[N] vCPUs or GiB as int64[N], so that sums are exact."""
    whole: np.ndarray = np.rint(amounts * MILLION).astype(np.int64)
    return whole


@kernel
def leaf_count_of(host_count):
    """The number of leaves of a tree over *host_count* hosts: the next power of two."""
    leaf_count = 1
    while leaf_count < host_count:
        leaf_count *= 2
    return leaf_count


@kernel
def next_with_room(most, leaf_count, node, vcpus, memory):
    """The first leaf with room at *node*, below it or after it, or NONE."""
    while True:
        if most[node, 0] >= vcpus and most[node, 1] >= memory:
            if node >= leaf_count:
                return node
            node *= 2
        else:
            while node & 1:
                node >>= 1
            if node == 0:
                return np.int64(NONE)
            node += 1


@kernel
def change(most, leaf, vcpus, memory):
    """Add to the room of *leaf*, or take from it, and settle the nodes above."""
    most[leaf, 0] += vcpus
    most[leaf, 1] += memory
    node = leaf >> 1
    while node:
        left = max(most[2 * node, 0], most[2 * node + 1, 0])
        right = max(most[2 * node, 1], most[2 * node + 1, 1])
        if left == most[node, 0] and right == most[node, 1]:
            break
        most[node, 0], most[node, 1] = left, right
        node >>= 1
