"""How is a figure drawn? Inline SVG that scales with the page and stays readable in grayscale."""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from mmd.report.data import ConditionTrack, LossCurve, Span

WIDTH = 640
LEFT, RIGHT, TOP, BOTTOM = 64, 96, 16, 36
DASHES = ("", "7 4", "2 3", "9 3 2 3", "1 5")
"""Series differ by dash as well as by colour, so that a grayscale print still tells them apart."""


_LONGEST_NAME = 16
"""Of a class in the confusions, in characters; the rest of a longer one is left out."""
_LONGEST_UPRIGHT = 3
"""Longer names of classes stand on end above the columns, which they would not fit."""


def loss_chart(curves: Sequence[LossCurve]) -> Markup:
    """Draw the terms of the loss over the steps, on a logarithmic scale where every value is positive."""
    height = 300
    svg = _svg(WIDTH, height, "Loss terms over the steps of the round")
    drawn = [curve for curve in curves if curve.steps and any(value > 0 for value in curve.values)]
    if not drawn:
        return _empty("No step has been taken yet.")
    first = min(curve.steps[0] for curve in drawn)
    last = max(max(curve.steps[-1] for curve in drawn), first + 1)
    positive = [value for curve in drawn for value in curve.values if value > 0 and math.isfinite(value)]
    low, high = math.log10(min(positive)), math.log10(max(positive))
    low, high = (low - 0.5, high + 0.5) if high - low < 0.1 else (low, high)

    def x(step: float) -> float:
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - math.log10(value)) / (high - low) * (height - TOP - BOTTOM)

    for tick in _log_ticks(low, high):
        _rule(svg, y(tick), f"{tick:g}")
    for step in (first, (first + last) // 2, last):
        _text(svg, x(step), height - 14, f"step {step}" if step == last else str(step), anchor="middle")
    placed: list[float] = []
    for index, curve in enumerate(drawn):
        points = [(x(s), y(v)) for s, v in zip(curve.steps, curve.values, strict=True) if v > 0 and math.isfinite(v)]
        line = SubElement(svg, "polyline", points=_points(points), fill="none")
        line.set("class", f"series s{index % 5}")
        line.set("stroke-dasharray", DASHES[index % len(DASHES)])
        label_y = _free_position(points[-1][1] + 4, placed)
        _text(svg, points[-1][0] + 6, label_y, curve.name, css=f"label s{index % 5}")
    return _markup(svg)


def confusion_chart(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Markup:
    """Draw counts: rows are the true class, columns the predicted one. Mistakes are outlined."""
    cell = 26 if len(classes) <= 12 else 18
    names = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in classes]
    longest = max(map(len, names), default=0)
    margin = max(46, 26 + 7 * longest)
    size = margin + cell * len(classes) + 8
    svg = _svg(size, size, title)
    largest = max((count for row in matrix for count in row), default=0) or 1
    _text(svg, margin + cell * len(classes) / 2, 12, "predicted", anchor="middle")
    side = _text(svg, 12, margin + cell * len(classes) / 2, "true", anchor="middle")
    side.set("transform", f"rotate(-90 12 {margin + cell * len(classes) / 2})")
    for index, name in enumerate(names):
        at = margin + cell * (index + 0.5)
        if longest > _LONGEST_UPRIGHT:
            above = _text(svg, at + 4, margin - 8, name)
            above.set("transform", f"rotate(-90 {at + 4} {margin - 8})")
        else:
            _text(svg, at, margin - 8, name, anchor="middle")
        _text(svg, margin - 8, margin + cell * (index + 0.5) + 4, name, anchor="end")
    for row, counts in enumerate(matrix):
        for column, count in enumerate(counts):
            at_x, at_y = margin + cell * column, margin + cell * row
            square = SubElement(svg, "rect", x=f"{at_x}", y=f"{at_y}", width=f"{cell - 1}", height=f"{cell - 1}")
            is_mistake = row != column and count > 0
            square.set("class", "cell mistake" if is_mistake else "cell")
            square.set("fill-opacity", f"{0.06 + 0.94 * count / largest:.2f}")
            if count:
                css = "count on-dark" if count / largest > 0.55 else "count"
                _text(svg, at_x + cell / 2, at_y + cell / 2 + 4, str(count), anchor="middle", css=css)
    return _markup(svg)


def timeline_chart(spans: Sequence[Span], tracks: Sequence[ConditionTrack]) -> Markup:
    """Draw the daemon's states as one lane and every condition that changed as a lane below it, over one time axis."""
    if not spans:
        return _empty("The daemon has not run yet.")
    tracks = [track for track in tracks if len(_known(track)) > 1]
    start, end = spans[0].start, max(span.end for span in spans)
    end = max(end, start + 1.0)
    lane, name_width = 52, 170
    height = lane * (len(tracks) + 1) + 34
    svg = _svg(WIDTH, height, "States and conditions over time")

    def x(time: float) -> float:
        return name_width + (min(max(time, start), end) - start) / (end - start) * (WIDTH - name_width - 20)

    _text(svg, name_width - 10, 28, "state", anchor="end", css="name")
    for span in spans:
        width = max(x(span.end) - x(span.start), 1.0)
        block = SubElement(svg, "rect", x=f"{x(span.start):.1f}", y="8", height="30", width=f"{width:.1f}")
        block.set("class", f"state {span.state}")
        SubElement(block, "title").text = f"{span.state} {_clock(span.start)} to {_clock(span.end)} {span.note}".strip()
        if width > 7 * len(span.state) + 6:
            _text(
                svg,
                x(span.start) + width / 2,
                28,
                span.state,
                anchor="middle",
                css="in-idle" if span.state == "idle" else "in-block",
            )
    for index, track in enumerate(tracks):
        _track_lane(svg, track, lane * (index + 1), x, name_width=name_width, end=end)
    for fraction in (0.0, 0.5, 1.0):
        moment = start + fraction * (end - start)
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[fraction]
        _text(svg, x(moment), height - 8, _clock(moment), anchor=anchor)
    return _markup(svg)


def steady_notes(tracks: Sequence[ConditionTrack]) -> list[str]:
    """Say what the conditions are that `timeline_chart` leaves out."""
    steady = [
        f"{track.name.replace('_', ' ')} {value:g} {track.unit}".strip()
        for track in tracks
        for value in _known(track)
        if len(_known(track)) == 1
    ]
    unread = [track.name.replace("_", " ") for track in tracks if not _known(track)]
    return [
        *([f"The same all the time: {', '.join(steady)}."] if steady else []),
        *([f"Not readable on this board: {', '.join(unread)}."] if unread else []),
    ]


def _known(track: ConditionTrack) -> set[float]:
    return {value for value in track.values if value is not None}


def _track_lane(
    svg: Element, track: ConditionTrack, top: float, x: Callable[[float], float], *, name_width: int, end: float
) -> None:
    known = [(t, v) for t, v in zip(track.times, track.values, strict=True) if v is not None]
    _text(svg, name_width - 10, top + 24, track.name.replace("_", " "), anchor="end", css="name")
    low, high = min(v for _, v in known), max(v for _, v in known)

    def y(value: float) -> float:
        return top + 40 - (value - low) / (high - low) * 26

    points: list[tuple[float, float]] = []
    for time, value in known:
        if points:
            points.append((x(time), points[-1][1]))
        points.append((x(time), y(value)))
    points.append((x(end), points[-1][1]))
    line = SubElement(svg, "polyline", points=_points(points), fill="none")
    line.set("class", "series s0")
    _text(svg, name_width - 10, top + 38, f"{low:g} to {high:g} {track.unit}".strip(), anchor="end", css="small")


def wilson_interval(right: int, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (E. B. Wilson, JASA 22, 1927)."""
    if total == 0:
        return 0.0, 1.0
    share = right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _svg(width: float, height: float, title: str) -> Element:
    svg = Element("svg", viewBox=f"0 0 {width:g} {height:g}", role="img", xmlns="http://www.w3.org/2000/svg")
    svg.set("aria-label", title)
    svg.set("style", f"max-width:{width * 1.5:g}px")
    if width >= WIDTH:
        svg.set("class", "chart")  # keeps its lettering legible on a phone, where it scrolls sideways instead
    return svg


def _markup(svg: Element) -> Markup:
    return Markup(tostring(svg, encoding="unicode"))


def _empty(sentence: str) -> Markup:
    return Markup("<p class='empty'>{}</p>").format(sentence)


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _text(parent: Element, x: float, y: float, text: str, *, anchor: str = "start", css: str = "tick") -> Element:
    element = SubElement(parent, "text", x=f"{x:.1f}", y=f"{y:.1f}")
    element.set("text-anchor", anchor)
    element.set("class", css)
    element.text = text
    return element


def _rule(svg: Element, y: float, label: str) -> None:
    line = SubElement(svg, "line", x1=f"{LEFT}", x2=f"{WIDTH - RIGHT}", y1=f"{y:.1f}", y2=f"{y:.1f}")
    line.set("class", "rule")
    _text(svg, LEFT - 8, y + 4, label, anchor="end")


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1-2-5 values between 10**low and 10**high, at most about six."""
    factors = (1, 2, 5) if high - low < 2 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    return [tick for tick in ticks if low <= math.log10(tick) <= high]


def _free_position(wanted: float, placed: list[float]) -> float:
    """Move a label down until it is clear of those already placed, and remember it."""
    while any(abs(wanted - other) < 13 for other in placed):
        wanted += 13
    placed.append(wanted)
    return wanted


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%H:%M:%S")
