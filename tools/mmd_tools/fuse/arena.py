"""How much of its arena does onnxruntime touch when allocations come in this order? Its best-fit allocator, replayed.

As in onnxruntime's BFCArena: pieces of 256 bytes, regions that double, the smallest free chunk that fits, split when
half of it would be left, joined with its free neighbours when it is given back. What was never touched is not resident.
"""

from dataclasses import dataclass, field

_PIECE = 256
_FIRST_REGION = 1 << 20


@dataclass(eq=False)
class Chunk:
    """A piece of a region."""

    region: "_Region"
    start: int
    size: int
    is_free: bool = True


@dataclass(eq=False)
class _Region:
    chunks: list[Chunk] = field(default_factory=list)
    touched: int = 0


@dataclass
class Arena:
    """The arena of one session, memory patterns switched off."""

    _regions: list[_Region] = field(default_factory=list)
    _next_region: int = _FIRST_REGION

    @property
    def touched(self) -> int:
        """Bytes that were ever in use."""
        return sum(region.touched for region in self._regions)

    def allocate(self, size: int) -> Chunk:
        size = -(-max(size, 1) // _PIECE) * _PIECE
        chunk = self._smallest_free(size) or self._extend(size)
        if chunk.size >= 2 * size:
            chunks = chunk.region.chunks
            rest = Chunk(chunk.region, chunk.start + size, chunk.size - size)
            chunks.insert(chunks.index(chunk) + 1, rest)
            chunk.size = size
        chunk.is_free = False
        chunk.region.touched = max(chunk.region.touched, chunk.start + size)
        return chunk

    def release(self, chunk: Chunk) -> None:
        chunk.is_free = True
        chunks = chunk.region.chunks
        at = chunks.index(chunk)
        if at + 1 < len(chunks) and chunks[at + 1].is_free:
            chunk.size += chunks.pop(at + 1).size
        if at and chunks[at - 1].is_free:
            chunks[at - 1].size += chunks.pop(at).size

    def _smallest_free(self, size: int) -> Chunk | None:
        fitting = (c for region in self._regions for c in region.chunks if c.is_free and c.size >= size)
        return min(fitting, key=lambda chunk: chunk.size, default=None)

    def _extend(self, size: int) -> Chunk:
        while self._next_region < size:
            self._next_region *= 2
        region = _Region()
        region.chunks.append(Chunk(region, 0, self._next_region))
        self._regions.append(region)
        self._next_region *= 2
        return region.chunks[0]
