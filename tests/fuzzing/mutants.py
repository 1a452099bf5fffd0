"""Damaged copies of valid files: bits flipped, pieces cut out, pieces of others spliced in. They are made when a test
runs, from a seed, and never stored."""

import random
from collections.abc import Callable, Iterator, Sequence

HEAD_BYTES = 256
"""Half of the changes are made here, where formats say what follows."""


def mutants(files: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` damaged copies, each of one to four changes."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(files))
        for _ in range(chance.randint(1, 4)):
            chance.choice(CHANGES)(data, files, chance)
        yield bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    return chance.randrange(max(min(len(data), HEAD_BYTES) if chance.random() < 0.5 else len(data), 1))


def _flip(data: bytearray, files: Sequence[bytes], chance: random.Random) -> None:
    for _ in range(chance.choice((1, 2, 8, 32)) if data else 0):
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _extreme(data: bytearray, files: Sequence[bytes], chance: random.Random) -> None:
    """A number in a header becomes the smallest, the largest or a negative one."""
    place, width = _place(data, chance), chance.choice((1, 2, 4, 8))
    data[place : place + width] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * width


def _cut(data: bytearray, files: Sequence[bytes], chance: random.Random) -> None:
    place = _place(data, chance)
    del data[place : place + chance.choice((1, 4, 64, len(data)))]


def _splice(data: bytearray, files: Sequence[bytes], chance: random.Random) -> None:
    other = chance.choice(files)
    start, place, size = chance.randrange(len(other)), _place(data, chance), chance.choice((1, 4, 32, 512))
    data[place : place + chance.choice((0, size))] = other[start : start + size]


Change = Callable[[bytearray, Sequence[bytes], random.Random], None]
CHANGES: tuple[Change, ...] = (_flip, _flip, _extreme, _cut, _splice)
