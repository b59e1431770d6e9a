"""What tells the daemon to look at the board at once? Sources of events beside the poll, one a file."""

from mmd.conditions.events.listen import Events
from mmd.conditions.events.source import Source, Unavailable

__all__ = ["Events", "Source", "Unavailable"]
