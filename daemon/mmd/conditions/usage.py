"""What has training used up so far? The supervisor keeps the account; some conditions are limits on it."""

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """The supervisor fills this in at every look; what it leaves out is no limit."""

    run_seconds: float = 0.0
    """How long the trainer has been running without an interruption; 0 while it does not run."""
    minutes_trained_today: float = 0.0
    """Since midnight of the local clock, over restarts of the daemon too."""
    watt_hours_today: float | None = None
    """What the board used while it trained since midnight; `None` where no meter tells (`mmd.conditions.energy`)."""
    duty_percent: float | None = None
    """How full the duty cycle's bucket is (`mmd.policy.duty_cycle`); `None`: as full as can be."""


NO_USAGE = Usage()
