"""What every section of the benchmark hands back: a table, which prints as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | float | int

NO_FIGURE = "\N{EN DASH}"
"""The cell of something that wasn't measured."""

_DIGITS = 3
"""Significant digits of a number below a thousand: more would be noise."""


@dataclass(frozen=True)
class Table:
    """Rows of figures under named columns. Units belong into the columns' names.

    Attributes:
        title: What is measured; a heading.
        columns: The columns' names. The first names what a row is about.
        rows: The cells, one sequence as long as `columns` for each row.
        note: What a reader must know to judge the figures, as Markdown.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title!r}: {len(row)} cells under {len(self.columns)} columns.")

    def markdown(self) -> str:
        """The table as Markdown, its columns padded so that the text reads well on a terminal too."""
        cells = [[_escaped(name) for name in self.columns], *([_cell(value) for value in row] for row in self.rows)]
        widths = [max(3, *(len(line[index]) for line in cells)) for index in range(len(self.columns))]
        numeric = [bool(self.rows) and all(_is_figure(row[index]) for row in self.rows) for index in range(len(widths))]
        head, *body = [_line(line, widths, numeric) for line in cells]
        rule = "|" + "|".join(_rule(width, right) for width, right in zip(widths, numeric, strict=True)) + "|"
        table = "\n".join([head, rule, *body])
        return "\n\n".join(part for part in (f"### {self.title}", table, self.note) if part)


def number(value: float) -> str:
    """A figure with three significant digits, thousands grouped and no exponent."""
    if value == 0:
        return "0"
    magnitude, decimals = abs(value), _DIGITS - 1
    while magnitude >= 10 and decimals > 0:
        magnitude, decimals = magnitude / 10, decimals - 1
    while magnitude < 1 and decimals < 2 * _DIGITS:
        magnitude, decimals = magnitude * 10, decimals + 1
    return f"{value:,.{decimals}f}"


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return _escaped(value)
    return f"{value:,}" if isinstance(value, int) else number(value)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _is_figure(value: Cell) -> bool:
    return not isinstance(value, str) or value in ("", NO_FIGURE) or value[:1].isdigit()


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    ]
    return f"| {' | '.join(padded)} |"


def _rule(width: int, right: bool) -> str:
    return "-" * (width + 1) + (":" if right else "-")
