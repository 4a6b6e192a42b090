"""Sets of resource names as bitsets: 1.25 kB for 10,000 names, where a `set` takes 700 kB.

A server keeps several such sets for each type of each stream. They are what makes a stream small, and set operations on all names cheap:
one bit operation on a long integer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import compress

_TRUTH = bytes.maketrans(b"01", b"\x00\x01")
"""From the digits of a binary number to bytes that are false and true."""


class Names:
    """An immutable set of names. It has the operators of a frozenset, and iterates in the order in which its NameIndex met the names.

    Operands belong to one NameIndex. Operations return an operand where the result equals it, so that equal sets are often one object.
    """

    __slots__ = ("_bits", "_index")

    def __init__(self, index: NameIndex, bits: int) -> None:
        self._index = index
        self._bits = bits

    def __or__(self, other: Names) -> Names:
        bits = self._bits | other._bits
        return self if bits == self._bits else other if bits == other._bits else Names(self._index, bits)

    def __and__(self, other: Names) -> Names:
        bits = self._bits & other._bits
        return self if bits == self._bits else other if bits == other._bits else Names(self._index, bits)

    def __sub__(self, other: Names) -> Names:
        bits = self._bits & ~other._bits
        return self if bits == self._bits else Names(self._index, bits)

    def __le__(self, other: Names) -> bool:
        return self._bits & other._bits == self._bits

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Names) and self._bits == other._bits)

    def __hash__(self) -> int:
        return hash(self._bits)

    def __bool__(self) -> bool:
        return self._bits != 0

    def __len__(self) -> int:
        return self._bits.bit_count()

    def __contains__(self, name: object) -> bool:
        number = self._index.get(name) if isinstance(name, str) else None
        return number is not None and bool(self._bits >> number & 1)

    def __iter__(self) -> Iterator[str]:
        """In the order of their numbers; the binary digits, least significant first, select from all names that the index knows."""
        return compress(self._index.by_number, f"{self._bits:b}".encode().translate(_TRUTH)[::-1])

    def among(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are in the set, in the given order. For many names this is faster than one test each."""
        if not self._bits:
            return []
        # A test of one bit copies a long integer, so the bits are copied once, into bytes. `absent` is the number of a bit that is never
        # set, because there is one byte more than the bits need.
        packed = self._bits.to_bytes(self._bits.bit_length() // 8 + 1, "little")
        absent = 8 * len(packed) - 1
        number_of = self._index.get
        numbered = [(name, number_of(name, absent)) for name in names]
        return [name for name, n in numbered if n < absent and packed[n >> 3] >> (n & 7) & 1]

    def __repr__(self) -> str:
        return f"<Names: {len(self)}>"


class NameIndex(dict[str, int]):
    """Name → a small number, which is the place of its bit; `index[name]` gives one to a name that has none.

    One index serves all types, so that their sets can be compared.
    """

    def __init__(self) -> None:
        super().__init__()
        self.none = Names(self, 0)
        """The empty set."""
        self.by_number: list[str] = []
        self._free: list[int] = []

    def __missing__(self, name: str) -> int:
        if self._free:
            number = self._free.pop()
            self.by_number[number] = name
        else:
            number = len(self.by_number)
            self.by_number.append(name)
        self[name] = number
        return number

    def names(self, names: Iterable[str]) -> Names:
        """These names as a set. A name without a number gets one, so only names that exist, or did lately, belong here."""
        numbers = [self[name] for name in names]
        packed = bytearray(max(numbers, default=0) // 8 + 1)
        for number in numbers:
            packed[number >> 3] |= 1 << (number & 7)
        return Names(self, int.from_bytes(packed, "little"))

    def free(self, name: str) -> None:
        """Makes the number of a name available to another one. No set may contain the name."""
        self._free.append(self.pop(name))
