"""How much of its arena does onnxruntime touch when allocations come in this order? Its best-fit allocator, replayed.

As in onnxruntime's BFCArena: pieces of 256 bytes, regions that double, the smallest free chunk that fits, split when
half of it would be left, joined with its free neighbours when it is given back. What was never touched is not resident.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Self

_PIECE = 256
_FIRST_REGION = 1 << 20

_Key = tuple[int, int, int]
"""Size, region, start: of chunks of one size the first one is taken."""


@dataclass(eq=False)
class Chunk:
    """A piece of a region, with its neighbours there."""

    region: int
    start: int
    size: int
    before: Self | None = None
    after: Self | None = None

    @property
    def key(self) -> _Key:
        return self.size, self.region, self.start


@dataclass
class Arena:
    """The arena of one session, memory patterns switched off."""

    _touched: list[int] = field(default_factory=list)
    """Of each region."""
    _free: dict[_Key, Chunk] = field(default_factory=dict)
    _by_size: list[_Key] = field(default_factory=list)
    """The keys of the free chunks, in order."""
    _next_region: int = _FIRST_REGION

    @property
    def touched(self) -> int:
        """Bytes that were ever in use."""
        return sum(self._touched)

    def allocate(self, size: int) -> Chunk:
        """Take the smallest free chunk that holds `size` bytes, from a new region where none does."""
        size = -(-max(size, 1) // _PIECE) * _PIECE
        place = bisect_left(self._by_size, (size, 0, 0))
        chunk = self._take(self._by_size[place]) if place < len(self._by_size) else self._extend(size)
        if chunk.size >= 2 * size:
            rest = Chunk(chunk.region, chunk.start + size, chunk.size - size, chunk, chunk.after)
            if chunk.after is not None:
                chunk.after.before = rest
            chunk.after, chunk.size = rest, size
            self._give(rest)
        self._touched[chunk.region] = max(self._touched[chunk.region], chunk.start + size)
        return chunk

    def release(self, chunk: Chunk) -> None:
        """Give `chunk` back; it is not to be used any more."""
        after, before = chunk.after, chunk.before
        if after is not None and after.key in self._free:
            self._take(after.key)
            self._join(chunk, after)
        if before is not None and before.key in self._free:
            self._take(before.key)
            self._join(before, chunk)
            chunk = before
        self._give(chunk)

    def _join(self, chunk: Chunk, after: Chunk) -> None:
        chunk.size += after.size
        chunk.after = after.after
        if chunk.after is not None:
            chunk.after.before = chunk

    def _give(self, chunk: Chunk) -> None:
        """Note that `chunk` is free."""
        self._free[chunk.key] = chunk
        insort(self._by_size, chunk.key)

    def _take(self, key: _Key) -> Chunk:
        """Return the free chunk with this key, which is free no longer."""
        del self._by_size[bisect_left(self._by_size, key)]
        return self._free.pop(key)

    def _extend(self, size: int) -> Chunk:
        """Return a new region as one chunk: twice the last one, and again until `size` bytes fit."""
        while self._next_region < size:
            self._next_region *= 2
        chunk = Chunk(len(self._touched), 0, self._next_region)
        self._touched.append(0)
        self._next_region *= 2
        return chunk
