"""How do a Mentor, a Mentee and a recipe become an artifact set? `fuse` is the whole way."""

from mmd_tools.fuse.build import find_pairs, fuse

__all__ = ["find_pairs", "fuse"]
