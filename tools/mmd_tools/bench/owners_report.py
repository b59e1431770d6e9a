"""How does the bench of owners look on paper? One table a size, and a picture."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from mmd_tools.bench.owners_run import (
    DEFAULT,
    GATED,
    LABELLED,
    MEMORY,
    MENTOR,
    MENTORED,
    NEIGHBOURS,
    SHIPPED,
    Record,
)
from mmd_tools.bench.owners_summary import Mean, RowSummary, difference, summarise
from mmd_tools.bench.plots import Line, Panel, draw
from mmd_tools.bench.tables import Conditions, markdown_table, write_raw, write_text

HEADER = (
    "row",
    "accuracy % [95 %]",
    "gain, points [95 %]",
    "worst quartile %",
    "its gain",
    "owners worse",
    "beyond noise",
    "anchor, points (worst)",
    "CPU s",
    "let through",
)
QUESTIONS = (
    ("replay: labels + replay, less labels only", "labels + replay", "labels only"),
    ("Mentor: mentored + replay, less labels + replay", MENTORED, "labels + replay"),
    ("hints: mentored + replay, less the same without hints", MENTORED, "mentored without hints + replay"),
    ("obedient, less adamant", "obedient + replay", MENTORED),
    ("the product before its gate, less labels + replay", DEFAULT, "labels + replay"),
    ("the product before its gate, less mentored + replay", DEFAULT, MENTORED),
    (
        "Mentor where few are labelled: mentored, less labels, both on the labelled alone",
        "labelled alone: mentored + replay",
        "labelled alone: labels + replay",
    ),
    ("unlabelled samples: all, less the labelled alone", MENTORED, "labelled alone: mentored + replay"),
    ("mentored on all, less labels on the labelled alone", MENTORED, "labelled alone: labels + replay"),
    ("the product before its gate, less labels on the labelled alone", DEFAULT, "labelled alone: labels + replay"),
    ("views: mentored + replay, less the same with one view", MENTORED, "one view + replay"),
    ("memory, less k-nearest neighbours", MEMORY, NEIGHBOURS),
    ("memory on the half-way weights, less none", "half-way + memory", "half-way"),
    ("the product, less labels only", GATED, "labels only"),
    ("the product, less labels + replay", GATED, "labels + replay"),
    ("the product, less k-nearest neighbours", GATED, NEIGHBOURS),
    ("fold models: the product, less the same without", GATED, "the product, held-out samples alone"),
)
DRAWN = (
    "labels only",
    "labels + replay",
    "labelled alone: labels + replay",
    "labelled alone: mentored + replay",
    MENTORED,
    "half-way + memory",
    GATED,
    NEIGHBOURS,
    MEMORY,
    MENTOR,
)
MOST_COLUMNS = 10
FLOOR = -5.0
"""Of the pictures, in points: labels alone fall far below, and the table says how far."""
PEOPLE = {"digits": ("writers", "digits"), "speech": ("speakers", "recordings"), "motion": ("people", "windows")}

_BUT = {"speech": ", but that labels speak alone was chosen on other splits of these speakers (tuning.md)"}


class OwnersResults(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in `owners.json`."""

    bench: str
    kind: str = "digits"
    group: str
    conditions: Conditions
    columns: tuple[str, ...] = Record.__struct_fields__
    records: list[Record]


def write_results(results: OwnersResults, folder: Path, *, with_plot: bool = True) -> None:
    """Write raw values, table and picture; the names are the bench's."""
    summaries = summarise(results.records)
    write_raw(folder / f"{results.bench}.json", results, lines_of="records")
    write_text(folder / f"{results.bench}.md", markdown(results, summaries))
    if with_plot:
        draw_owners(folder / f"{results.bench}.png", results, summaries)


def markdown(results: OwnersResults, summaries: Sequence[RowSummary]) -> str:
    first = summaries[0]
    where = results.conditions
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    parts = [
        f"# What {first.owners} owners gain\n",
        _explanation(results, first),
        *(_section(size, summaries) for size in dict.fromkeys(one.size for one in summaries)),
        _one_by_one(results),
        _head_to_head(results),
        f"`{where.command}` on {where.cores} cores of {where.machine}; set {where.artifact_set} "
        f"`{_short(where.artifact_sha256)}`; {versions}. Raw values: [{results.bench}.json]({results.bench}.json).\n",
    ]
    return "\n".join(parts)


def _explanation(results: OwnersResults, first: RowSummary) -> str:
    people, things = PEOPLE[results.kind]
    if results.kind != "digits":
        who = (
            f"{first.owners} {people}, {first.seeds} seed(s) each, with sets that never met them: Mentor, Mentee and "
            f"anchor set are made of the others' {things} alone. One's {things}"
        )
    else:
        who = f"{first.owners} writers ({results.group} group), {first.seeds} seed(s) each. A writer's digits"
    partly = (
        f"Of the own samples {100 * LABELLED:.0f} % have a label; *labelled alone* takes these and leaves the others. "
        if "partly" in results.bench
        else ""
    )
    return (
        f"{who} are drawn "
        "apart into own samples, which are ingested, and a test part, which the product never sees. A quarter of the "
        "own samples is held out by the store for the gate, so each row trains on the other three quarters of n, "
        f"the same ones for every row. {partly}"
        f"*Worst quartile*: the {people} whom the shipped Mentee reads worst, chosen on what they give away and "
        "not on the test part. *Owners worse*: their mean over the seeds is below the shipped "
        f"Mentee's; *beyond noise*: of the {first.pairs} pairs of owner and seed, those with p <= 0.05 against the "
        "shipped Mentee (one-sided exact McNemar). *Anchor*: change of accuracy on the gate's half of the anchor "
        "set, the mean and the worst of the pairs. *Let through*: rounds of which the gate promoted a "
        "candidate. Every row but *the product* shows a candidate that no gate has judged. *Half-way*: weights between "
        "the shipped and the trained ones. *Memory*: the nearest own sample of each class votes beside the network. "
        "*k-nearest neighbours* blends the shipped network with a vote of its nearest own samples. All tuning was done "
        f"on owners who are not in this table{_BUT.get(results.kind, '')}. Intervals: bootstrap over owners.\n"
    )


def _section(size: int, summaries: Sequence[RowSummary]) -> str:
    chosen = [one for one in summaries if one.size == size]
    return f"## {size} own samples\n\n{markdown_table(HEADER, [_line(one) for one in chosen])}"


def _short(sha256: str) -> str:
    return " ".join(each[:12] for each in sha256.split())


def _one_by_one(results: OwnersResults) -> str:
    """Return each owner's errors at the largest size; empty where there are too many owners for a table."""
    names = list(dict.fromkeys(one.owner for one in results.records))
    if not 1 < len(names) <= MOST_COLUMNS:
        return ""
    size = max(one.size for one in results.records)
    errors: dict[tuple[str, str], list[float]] = {}
    for one in results.records:
        if one.size == size:
            errors.setdefault((one.row, one.owner), []).append(100 * (1 - one.right / one.total))
    rows = []
    for row in dict.fromkeys(row for row, _ in errors):
        means = [sum(errors[row, name]) / len(errors[row, name]) for name in names]
        shipped = [sum(errors[SHIPPED, name]) / len(errors[SHIPPED, name]) for name in names]
        left = f"{100 * sum(means) / max(sum(shipped), 1e-9):.0f}"
        rows.append((row, *(f"{mean:.1f}" for mean in means), f"{sum(means) / len(means):.1f}", left))
    table = markdown_table(("error %", *names, "mean", "% of shipped's"), rows)
    return f"## Owner by owner, {size} own samples\n\n{table}"


def _head_to_head(results: OwnersResults) -> str:
    """Return the table of what one thing changes when all others stay; empty when its rows were not run."""
    sizes = list(dict.fromkeys(one.size for one in results.records))
    rows = []
    for question, row, other in QUESTIONS:
        means = [difference(results.records, row, other, size) for size in sizes]
        known = [mean for mean in means if mean is not None]
        if len(known) == len(sizes):
            rows.append((question, *(_interval(mean, signed=True) for mean in known)))
    if not rows:
        return ""
    table = markdown_table(("own samples", *map(str, sizes)), rows)
    return f"## One against the other\n\nPaired difference of accuracy in points, with its 95 % interval.\n\n{table}"


def _line(one: RowSummary) -> tuple[str, ...]:
    changes = one.row != SHIPPED
    return (
        one.row,
        _interval(one.accuracy),
        _interval(one.gain, signed=True) if changes else "",
        f"{one.quartile_accuracy:.1f}",
        f"{one.quartile_gain:+.1f}" if changes else "",
        f"{one.worse_owners} of {one.owners}" if changes else "",
        f"{one.worse_beyond_noise}" if changes else "",
        f"{one.anchor_change:+.2f} ({one.anchor_worst:+.2f})" if changes else "",
        f"{one.cpu_seconds:.2f}" if one.cpu_seconds else "",
        f"{one.promoted} of {one.pairs}" if one.is_gated else "",
    )


def _interval(mean: Mean, *, signed: bool = False) -> str:
    form = "+.2f" if signed else ".2f"
    return f"{mean.value:{form}} [{mean.low:{form}}, {mean.high:{form}}]"


def draw_owners(path: Path, results: OwnersResults, summaries: Sequence[RowSummary]) -> None:
    sizes = list(dict.fromkeys(one.size for one in summaries))
    found = {(one.row, one.size): one for one in summaries}
    rows = [row for row in DRAWN if (row, sizes[0]) in found]

    def line(row: str) -> Line:
        means = [found[row, size].gain for size in sizes]
        return Line(row, [m.value for m in means], [m.low for m in means], [m.high for m in means])

    def plain(row: str, name: str) -> Line:
        values = [float(getattr(found[row, size], name)) for size in sizes]
        return Line(row, values, values, values)

    who = "student writers" if results.kind == "digits" else PEOPLE[results.kind][0]
    gains, hard = [line(row) for row in rows], [plain(row, "quartile_gain") for row in rows]
    panels = [
        Panel("All owners, 95 % interval", "gain over the shipped, points", gains, zero=True, floor=FLOOR),
        Panel("The quarter hardest to read", "gain, points", hard, zero=True, floor=FLOOR),
        Panel("Who got worse", f"owners of {summaries[0].owners}", [plain(row, "worse_owners") for row in rows]),
    ]
    draw(path, panels, sizes=sizes, x_label="own samples", title=f"{summaries[0].owners} {who}")
