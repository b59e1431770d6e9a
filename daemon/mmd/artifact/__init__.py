"""What an artifact set is, and how one is opened."""

from mmd.artifact.load import ArtifactSet, open_set, read_set
from mmd.artifact.manifest import Manifest

__all__ = ["ArtifactSet", "Manifest", "open_set", "read_set"]
