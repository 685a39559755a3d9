"""The replay of CUDA's caching allocator, against what its source says it does."""

from hypothesis import given
from hypothesis import strategies as st

from app.planner.trace.cuda_allocator import CachingAllocator, ExpandableAllocator, replay

MIB = 1 << 20


def test_a_request_is_rounded_up_to_512_bytes() -> None:
    allocator = CachingAllocator()
    allocator.take("a", 1)
    allocator.take("b", 513)
    assert allocator.allocated == 512 + 1024


def test_small_requests_share_a_segment_of_2_mib() -> None:
    allocator = CachingAllocator()
    allocator.take("a", MIB)
    allocator.take("b", MIB)
    assert allocator.reserved == 2 * MIB
    allocator.take("c", 512)
    assert allocator.reserved == 4 * MIB


def test_requests_up_to_10_mib_share_a_segment_of_20_mib_and_larger_ones_get_their_own() -> None:
    allocator = CachingAllocator()
    allocator.take("a", 9 * MIB)
    allocator.take("b", 9 * MIB)
    assert allocator.reserved == 20 * MIB
    allocator.take("c", 11 * MIB)
    assert allocator.reserved == 20 * MIB + 12 * MIB


def test_a_rest_of_up_to_1_mib_is_not_split_and_counts_as_allocated() -> None:
    allocator = CachingAllocator()
    allocator.take("a", 11 * MIB)
    assert allocator.allocated == 12 * MIB
    allocator.take("b", 18 * MIB + 512)
    assert allocator.allocated == 12 * MIB + 20 * MIB - (2 * MIB - 512)


def test_the_smallest_free_block_that_fits_is_taken() -> None:
    allocator = CachingAllocator()
    for key, size in (("a", 40), ("b", 20), ("c", 60)):
        allocator.take(key, size * MIB)
    for key in "abc":
        allocator.give_back(key)
    reserved = allocator.reserved
    allocator.take("d", 20 * MIB)
    allocator.take("e", 40 * MIB)
    allocator.take("f", 60 * MIB)
    assert allocator.reserved == reserved


def test_freed_neighbours_are_joined_whatever_the_order() -> None:
    for order in ("abc", "cba", "acb", "bac"):
        allocator = CachingAllocator()
        for key in "abc":
            allocator.take(key, 6 * MIB)
        assert allocator.reserved == 20 * MIB
        for key in order:
            allocator.give_back(key)
        allocator.take("whole", 9 * MIB)
        allocator.take("rest", 9 * MIB)
        assert allocator.reserved == 20 * MIB, order


def test_emptying_the_cache_gives_back_only_segments_without_a_used_block() -> None:
    allocator = CachingAllocator()
    allocator.take("kept", 6 * MIB)
    allocator.take("hole", 6 * MIB)
    allocator.take("alone", 30 * MIB)
    allocator.give_back("hole")
    allocator.give_back("alone")
    allocator.empty_cache()
    assert allocator.reserved == 20 * MIB
    assert allocator.reserved_peak == 50 * MIB


def test_holes_between_lasting_blocks_make_reserved_exceed_allocated() -> None:
    ids, sizes = [], []
    for number in range(20):
        ids += [2 * number, 2 * number + 1]
        sizes += [12 * MIB, 12 * MIB]
    ids += [2 * number for number in range(20)]
    sizes += [-12 * MIB] * 20
    ids.append(99)
    sizes.append(240 * MIB)
    allocator = CachingAllocator()
    replay(allocator, ids, sizes)
    assert allocator.allocated == 20 * 12 * MIB + 240 * MIB
    assert allocator.reserved == 40 * 12 * MIB + 240 * MIB


def test_expanding_segments_grow_by_20_mib_at_their_end_and_keep_what_was_freed() -> None:
    allocator = ExpandableAllocator()
    allocator.take("a", 11 * MIB)
    assert (allocator.allocated, allocator.reserved) == (11 * MIB, 20 * MIB)
    allocator.take("b", 11 * MIB)
    assert (allocator.allocated, allocator.reserved) == (22 * MIB, 40 * MIB)
    allocator.give_back("b")
    assert (allocator.allocated, allocator.reserved) == (11 * MIB, 40 * MIB)
    allocator.take("c", 50 * MIB)
    assert (allocator.allocated, allocator.reserved) == (61 * MIB, 80 * MIB)


def test_small_requests_expand_a_segment_of_their_own_by_2_mib() -> None:
    allocator = ExpandableAllocator()
    allocator.take("a", MIB)
    allocator.take("b", 700 << 10)
    assert allocator.reserved == 2 * MIB
    allocator.take("c", MIB)
    assert allocator.reserved == 4 * MIB
    allocator.take("large", 3 * MIB)
    assert allocator.reserved == 24 * MIB


def test_the_block_that_can_still_grow_is_taken_only_when_no_other_fits() -> None:
    allocator = ExpandableAllocator()
    for key, size in (("low", 30), ("between", 2), ("high", 8)):
        allocator.take(key, size * MIB)
    allocator.give_back("low")
    allocator.give_back("high")
    allocator.take("a", 6 * MIB)  # 8 MiB at the end would fit better
    allocator.take("b", 8 * MIB)
    allocator.take("c", 8 * MIB)
    allocator.take("d", 8 * MIB)
    assert allocator.reserved == 40 * MIB


def test_steps_of_growing_rows_leave_holes_by_default_and_none_in_a_segment_that_expands() -> None:
    default, expandable = CachingAllocator(), ExpandableAllocator()
    for allocator in (default, expandable):
        for megabytes in (101, 203, 305):
            allocator.take(megabytes, megabytes * MIB)
            allocator.give_back(megabytes)
    assert default.reserved > 600 * MIB
    assert expandable.reserved == 320 * MIB


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 40 * MIB)), max_size=120))
def test_whatever_is_taken_and_freed_the_segments_are_covered_by_blocks_without_gap(moves: list[tuple[int, int]]) -> None:
    allocator = ExpandableAllocator()
    held: dict[int, int] = {}
    before = 0
    for key, size in moves:
        if key in held:
            allocator.give_back(key)
            del held[key]
        else:
            allocator.take(key, size)
            held[key] = -(-size // 512) * 512
        assert allocator.allocated == sum(held.values())
        assert allocator.reserved >= max(before, allocator.allocated)
        before = allocator.reserved
        free = sum(block[0] for blocks in allocator._free.values() for block in blocks)
        assert free == allocator.reserved - allocator.allocated
