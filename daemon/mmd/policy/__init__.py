"""May training run now? If not: why, since when, and what would change it."""

from mmd.policy.decide import Facts, Mode, decide, overridden
from mmd.policy.reasons import Code, Reason
from mmd.policy.tracker import Tracker, look, remember

__all__ = ["Code", "Facts", "Mode", "Reason", "Tracker", "decide", "look", "overridden", "remember"]
