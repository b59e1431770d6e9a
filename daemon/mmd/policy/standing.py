"""How does one value stand against a start level and a stop level? The shapes that conditions share."""

from dataclasses import dataclass

from mmd.conditions import Reading


@dataclass(frozen=True)
class Standing:
    """Where one condition stands against its limits."""

    meets_start: bool
    """Good enough to start, or to go on after a suspension."""
    meets_stop: bool
    """Good enough not to interrupt what is running; whatever meets the start level meets this."""
    dwell_seconds: float
    """For how long the start level must be met without a break."""
    message: str
    clears_when: str
    """The start level in words."""
    start: str
    stop: str


def yes_or_no(*, is_met: bool, dwell_seconds: float, message: str, clears_when: str, limit: str) -> Standing:
    """A condition that has no levels: it is met or not."""
    return Standing(is_met, is_met, dwell_seconds, message, clears_when, limit, limit)


def at_least(
    reading: Reading[float],
    start: float,
    stop: float,
    dwell_seconds: float,
    *,
    unit: str,
    message: str,
    clears_when: str,
) -> Standing:
    """A condition that must not be low. The words may name `{value}`, `{detail}` and `{start}`."""
    value = reading.value
    words = {"value": f"{number(value)}{unit}", "detail": reading.detail, "start": f"{start:g}{unit}"}
    return Standing(
        meets_start=value is None or value >= start,
        meets_stop=value is None or value >= stop,
        dwell_seconds=dwell_seconds,
        message=message.format_map(words),
        clears_when=clears_when.format_map(words),
        start=f">= {start:g}{unit}",
        stop=f"< {stop:g}{unit}",
    )


def at_most(
    reading: Reading[float],
    start: float,
    stop: float,
    dwell_seconds: float,
    *,
    unit: str,
    message: str,
    clears_when: str,
) -> Standing:
    """A condition that must not be high. Where the hardware asks for less (`ceiling`), both levels come down."""
    value = reading.value
    if reading.ceiling is not None and reading.ceiling < stop:
        start, stop = min(start, reading.ceiling - (stop - start)), reading.ceiling
    words = {"value": f"{number(value)}{unit}", "detail": reading.detail, "start": f"{start:g}{unit}"}
    return Standing(
        meets_start=value is None or value <= start,
        meets_stop=value is None or value <= stop,
        dwell_seconds=dwell_seconds,
        message=message.format_map(words),
        clears_when=clears_when.format_map(words),
        start=f"<= {start:g}{unit}",
        stop=f"> {stop:g}{unit}",
    )


def below_budget(
    value: float | None, budget: float | None, *, unit: str, message: str, clears_when: str, rest_seconds: float = 0.0
) -> Standing:
    """A condition that may grow up to a budget; without a budget, or a reading, it is no limit."""
    is_met = value is None or budget is None or value < budget
    limit = "no limit" if budget is None else f"< {budget:g}{unit}"
    words = {"value": f"{number(value)}{unit}", "budget": f"{budget or 0:g}{unit}"}
    return Standing(
        meets_start=is_met,
        meets_stop=is_met,
        dwell_seconds=rest_seconds,
        message=message.format_map(words),
        clears_when=clears_when.format_map(words),
        start=limit,
        stop=limit.replace("<", ">="),
    )


def number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.1f}" if abs(value) < 100 and value != int(value) else f"{value:.0f}"
