"""How do the results of a bench look? Lines with error bars that can be told apart without colour.

matplotlib comes with the `bench` extra; nothing else needs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmd.durable import make_folder
from mmd.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Each row differs in three ways, so that it survives a grey printer: shade, dash and marker.
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#000000", "linestyle": "-", "marker": "o"},
    {"color": "#0b4f8a", "linestyle": "--", "marker": "s"},
    {"color": "#b5541c", "linestyle": "-.", "marker": "^"},
    {"color": "#3d7a3a", "linestyle": ":", "marker": "D"},
    {"color": "#8a3ea8", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": "#6b6b6b", "linestyle": (0, (1, 1)), "marker": "P"},
    {"color": "#a8872b", "linestyle": (0, (7, 2)), "marker": "X"},
    {"color": "#4aa3a0", "linestyle": (0, (3, 1, 1, 1)), "marker": "*"},
)


@dataclass(frozen=True)
class Line:
    """One row of a table over its sizes."""

    name: str
    values: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


@dataclass(frozen=True)
class Panel:
    title: str
    y_label: str
    lines: Sequence[Line]
    zero: bool = False
    """Draw where nothing changes."""
    floor: float | None = None
    """What lies lower is cut off, so that the rest can be told apart."""


def draw(path: Path, panels: Sequence[Panel], *, sizes: Sequence[int], x_label: str, title: str) -> None:
    """Write the panels, side by side, as a PNG. Raises `UsageError` when matplotlib is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError(
            "Pictures need matplotlib: pip install 'mmd-daemon[bench]', or give --no-plot for the table alone."
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.4 * len(panels), 5.2), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        _draw_panel(axis, panel, sizes, x_label)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.suptitle(title, fontsize=11)
    figure.legend(handles, names, loc="lower center", ncols=min(4, len(names)), fontsize=8, frameon=False)
    rows = -(-len(names) // 4)
    figure.tight_layout(rect=(0, 0.045 * rows + 0.01, 1, 0.99))
    make_folder(path.absolute().parent)
    # No creation date and no version inside: the same results give the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _draw_panel(axis: "Axes", panel: Panel, sizes: Sequence[int], x_label: str) -> None:
    middle = (len(panel.lines) - 1) / 2
    for place, line in enumerate(panel.lines):
        # Set apart a little, or the bars cover each other.
        across = [index + 0.05 * (place - middle) for index in range(len(sizes))]
        below = [value - low for value, low in zip(line.values, line.lows, strict=True)]
        above = [high - value for value, high in zip(line.values, line.highs, strict=True)]
        style = _STYLES[place % len(_STYLES)]
        axis.errorbar(
            across, line.values, yerr=[below, above], label=line.name, markersize=5, capsize=2, linewidth=1.3, **style
        )
    if panel.floor is not None and axis.get_ylim()[0] < panel.floor:
        axis.set_ylim(bottom=panel.floor)
    if panel.zero:
        axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axis.set_xlabel(x_label)
    axis.set_ylabel(panel.y_label)
    axis.set_title(panel.title, fontsize=10)
    axis.grid(axis="y", linewidth=0.4, color="#bbbbbb")
