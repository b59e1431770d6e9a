"""How does one value stand against a start level and a stop level? The shapes that conditions share."""

from collections.abc import Callable

import msgspec

from mmd.conditions import Reading


class Words(msgspec.Struct, frozen=True):
    """What a person is told of a condition."""

    message: str
    clears_when: str
    """The start level as a sentence."""
    start: str
    stop: str


class Standing(msgspec.Struct, frozen=True):
    """Where one condition stands against its limits."""

    meets_start: bool
    """Good enough to start, or to go on after a suspension."""
    meets_stop: bool
    """Good enough not to interrupt what is running; whatever meets the start level meets this."""
    dwell_seconds: float
    """For how long the start level must be met without a break."""
    tell: Callable[[], Words]
    """Puts it into words. Every condition is judged every second, and hardly ever told."""

    @property
    def message(self) -> str:
        return self.tell().message

    @property
    def clears_when(self) -> str:
        return self.tell().clears_when

    @property
    def start(self) -> str:
        return self.tell().start

    @property
    def stop(self) -> str:
        return self.tell().stop


def yes_or_no(
    *, is_met: bool, dwell_seconds: float, message: str, clears_when: str, start: str, stop: str | None = None
) -> Standing:
    """A condition that has no levels: it is met or not."""
    return Standing(
        is_met, is_met, dwell_seconds, lambda: Words(message, clears_when, start, start if stop is None else stop)
    )


def at_least(
    reading: Reading[float],
    start: float,
    stop: float,
    dwell_seconds: float,
    *,
    unit: str,
    message: str,
    clears_when: str,
    is_stop_beyond: bool = False,
) -> Standing:
    """A condition that must not be low. The words may name `{value}`, `{detail}` and `{start}`.

    `is_stop_beyond`: the stop level itself is too low already, as an empty bucket is.
    """
    value = reading.value
    meets_stop = value is None or value > stop or (value == stop and not is_stop_beyond)
    sign = "<=" if is_stop_beyond else "<"
    return Standing(
        meets_start=meets_stop and (value is None or value >= start),
        meets_stop=meets_stop,
        dwell_seconds=dwell_seconds,
        tell=lambda: _words(
            reading, start, message, clears_when, unit, f">= {start:g}{unit}", f"{sign} {stop:g}{unit}"
        ),
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
    return Standing(
        meets_start=value is None or value <= start,
        meets_stop=value is None or value <= stop,
        dwell_seconds=dwell_seconds,
        tell=lambda: _words(reading, start, message, clears_when, unit, f"<= {start:g}{unit}", f"> {stop:g}{unit}"),
    )


def below_budget(
    reading: Reading[float],
    budget: float | None,
    *,
    unit: str,
    message: str,
    clears_when: str,
    rest_seconds: float = 0.0,
) -> Standing:
    """A condition that may grow up to a budget; without a budget, or a reading, it is no limit."""
    is_met = reading.value is None or budget is None or reading.value < budget
    most = "no limit" if budget is None else f"< {budget:g}{unit}"
    return Standing(
        is_met,
        is_met,
        rest_seconds,
        lambda: _words(reading, budget or 0, message, clears_when, unit, most, most.replace("<", ">=")),
    )


def _words(
    reading: Reading[float], level: float, message: str, clears_when: str, unit: str, start: str, stop: str
) -> Words:
    names = {"value": f"{number(reading.value)}{unit}", "detail": reading.detail, "start": f"{level:g}{unit}"}
    return Words(message.format_map(names), clears_when.format_map(names), start, stop)


def number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.1f}" if abs(value) < 100 and value != int(value) else f"{value:.0f}"
