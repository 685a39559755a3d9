"""Find equal numbers among millions in a memory that does not grow with them: one small part after the other."""

from array import array
from collections.abc import Iterator

_PARTS = 256


def partition(keys: "array[int]") -> Iterator["array[int]"]:
    """Yield 64-bit keys in parts of about 1/256, each part with all keys of its range, the ranges in ascending order."""
    if len(keys) < _PARTS:
        yield keys
        return
    parts = [array("Q") for _ in range(_PARTS)]
    for key in keys:
        parts[key >> 56].append(key)
    while parts:
        yield parts.pop(0)


def count_distinct(keys: "array[int]") -> int:
    """Return how many different keys there are."""
    return sum(len(set(part)) for part in partition(keys))


def group_equal(keys: "array[int]") -> Iterator[list[int]]:
    """Yield the places of every key that stands more than once, in ascending order; groups in no particular order."""
    parts = [array("Q") for _ in range(_PARTS)]
    for place, key in enumerate(keys):
        parts[key >> 56].append(place)
    for part in parts:
        seen: dict[int, int] = {}
        groups: dict[int, list[int]] = {}
        for place in part:
            key = keys[place]
            if key in seen:
                groups.setdefault(key, [seen[key]]).append(place)
            else:
                seen[key] = place
        yield from groups.values()
