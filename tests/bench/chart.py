"""How a reply's cost grows with the conversation, as a picture for the README."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

from tests.bench.table import Table

PANELS = (
    ("Enter → first word (ms)", "Enter to first word", "milliseconds"),
    ("server CPU (s)", "Server CPU per reply", "seconds"),
    ("main thread (s)", "Browser main thread per reply", "seconds"),
)
"""Each panel's column in the table, its heading and its unit."""

STYLES = {
    "Parley": ("#0f766e", 3.0, "o"),
    "gr.ChatInterface": ("#c2410c", 1.8, "s"),
    "Pydantic AI example": ("#64748b", 1.8, "^"),
    "Chainlit": ("#7c3aed", 1.8, "D"),
}
"""Each chat's colour, line width and marker."""

_INK, _PALE = "#1f2937", "#e5e7eb"


def draw(figures: Table, path: Path) -> None:
    """Draw the growth curves of `figures`, the browser section's first table, as a PNG of 1400 by 660 pixels."""
    mpl.rcParams.update(
        {
            "font.size": 12,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "xtick.color": "#4b5563",
            "ytick.color": "#4b5563",
        }
    )
    figure, panels = plt.subplots(1, len(PANELS), figsize=(14, 6.6), dpi=100, facecolor="white")
    for panel, (column, heading, unit) in zip(panels, PANELS, strict=True):
        _panel(panel, figures, column)
        panel.set_title(heading, loc="left", fontsize=15, fontweight="bold", pad=26)
        panel.text(0, 1.025, f"{unit}, logarithmic", transform=panel.transAxes, fontsize=11.5, color="#6b7280")
    figure.supxlabel("earlier messages in the conversation", fontsize=12.5, y=0.112)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=13)
    figure.subplots_adjust(left=0.05, right=0.985, top=0.87, bottom=0.2, wspace=0.2)
    figure.savefig(path)
    plt.close(figure)


def _panel(panel: Axes, figures: Table, column: str) -> None:
    counts: set[int] = set()
    values: list[float] = []
    for name, (colour, width, marker) in STYLES.items():
        points = _points(figures, name, column)
        if not points:
            continue
        xs, ys = zip(*points, strict=True)
        counts |= set(xs)
        values += ys
        front = 3 if name == "Parley" else 2
        panel.plot(xs, ys, color=colour, linewidth=width, marker=marker, markersize=7, label=name, zorder=front)
    panel.set_yscale("log")
    panel.xaxis.set_major_locator(MultipleLocator(500))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.yaxis.set_major_locator(FixedLocator(_steps(min(values), max(values))))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_ylim(min(values) / 1.5, max(values) * 1.5)
    panel.set_xlim(-60, max(counts) + 60)
    panel.grid(axis="y", color=_PALE)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.spines["bottom"].set_color("#9ca3af")
    panel.tick_params(length=0, labelsize=12)


def _points(figures: Table, name: str, column: str) -> list[tuple[int, float]]:
    index = list(figures.columns).index(column)
    rows = [row for row in figures.rows if row[0] == name and not isinstance(row[index], str)]
    return [(int(str(row[1]).replace(",", "")), float(row[index])) for row in rows]


def _steps(least: float, most: float) -> Sequence[float]:
    """One, two and five of each power of ten between the two; without the twos and fives of a wide range."""
    wide = most / least > 300
    every = [digit * 10.0**power for power in range(-3, 6) for digit in ((1,) if wide else (1, 2, 5))]
    return [step for step in every if least / 1.5 <= step <= most * 1.5]
