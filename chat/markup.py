"""Values and names as Markdown that shows them and does nothing else: no rule of Markdown or HTML acts on them."""

import json
import re
from collections.abc import Sequence
from html import escape
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic_core import to_json

SHOWN = 2_000
"""Characters of a value that are shown at once."""

SHOWN_ON_DEMAND = 20_000
"""Characters of a value that a click shows: the browser lays all of it out."""

TABLE_ROWS = 20
TABLE_COLUMNS = 8
NOTHING = "—"
CELL = 200
"""Characters of a cell."""

_SPECIAL = re.compile(
    r"""[\\`*{}\[\]<>!|&~$@]
    | (?<![^\W_])_ | _(?![^\W_])  # Inside a word it is one of its letters.
    | :(?=//) | (?<=www)\.         # What would become a link by itself.
    | ^[-+=\#] | ^\d+(?=[.)]\s)    # What would begin a list or a heading.
    """,
    re.IGNORECASE | re.VERBOSE,
)


def inert(words: str) -> str:
    """What somebody wrote, on one line, to the letter."""
    return _SPECIAL.sub(_entities, " ".join(words.split()))


def _entities(found: re.Match[str]) -> str:
    return "".join(f"&#{ord(character)};" for character in found[0])


def link(url: str, label: str | None = None) -> str:
    """A link to another site, which is loaded only by a click; the bare label when it isn't one."""
    name = inert(label or url)
    try:
        known = urlsplit(url).scheme in ("http", "https")
    except ValueError:
        known = False
    if not known or not url.isprintable() or " " in url:
        return name
    return f"<a href={quoted(url)}>{name}</a>"


def quoted(words: str) -> str:
    """What somebody wrote, as the value of an HTML attribute."""
    value = escape(" ".join(words.split()))
    for mark in "$\\`":  # What acts on a page before its tags are found.
        value = value.replace(mark, f"&#{ord(mark)};")
    return f'"{value}"'


def json_text(value: object) -> str:
    """A value as JSON, set out; what has no JSON is described."""
    try:
        return to_json(value, indent=2, fallback=repr, bytes_mode="base64", inf_nan_mode="constants").decode()
    except ValueError:  # Half a Unicode character, or nested deeper than pydantic goes.
        return json.dumps(repr(value))


def fenced(content: str, language: str = "") -> str:
    """Text as a code block whose fence is longer than any run of backticks in it; JSON is set out."""
    if not language and (value := _json_value(content)) is not None:
        content, language = json.dumps(value, indent=2, ensure_ascii=False), "json"
    longest = max((len(run) for run in re.findall(r"`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{content}\n{fence}"


def details(summary: str, body: str) -> str:
    """What a click shows."""
    return f"<details><summary>{inert(summary)}</summary>\n\n{body}\n\n</details>"


def code(content: str, language: str = "") -> str:
    """Text as a code block; of a long one the beginning, its size, and on demand the rest."""
    if len(content) <= SHOWN:
        return fenced(content, language)
    whole = fenced(content[:SHOWN_ON_DEMAND], language or "text")
    if len(content) > SHOWN_ON_DEMAND:
        whole += f"\n\n*… and {len(content) - SHOWN_ON_DEMAND:,} more characters, which are stored too.*"
    start = fenced(f"{content[:SHOWN]}…", language or "text")
    return f"{start}\n\n{details(f'All {len(content):,} characters', whole)}"


def value(content: object) -> str:
    """A value as what it is: text, JSON, or a table of flat records."""
    if isinstance(content, str):
        decoded = _json_value(content)
        if not isinstance(decoded, dict | list):
            return code(content)
        content = cast("object", decoded)
    plain = json.loads(json_text(content))
    return table(plain) or code(json.dumps(plain, indent=2, ensure_ascii=False), "json")


def outline(content: object) -> str:
    """A structured value for readers: its fields as a list, its records as tables."""
    if (whole := table(content)) is not None:
        return whole
    if not isinstance(content, dict):
        return "\n".join(_outline(content))
    blocks: list[str] = []
    for name, field in cast("dict[str, object]", content).items():
        records = table(field)
        lines = f"**{inert(name)}**\n\n{records}\n" if records else "\n".join(_labelled(name, field))
        blocks += [f"\n{lines}" if records else lines]
    return "\n".join(blocks).strip()


def table(rows: object) -> str | None:
    """A list of flat records as a table of its first rows; `None` when it isn't one."""
    if not isinstance(rows, list) or not rows:
        return None
    items = cast("list[object]", rows)
    records = [cast("dict[str, object]", item) for item in items if isinstance(item, dict)]
    columns = list(dict.fromkeys(name for record in records for name in record))
    flat = all(not isinstance(cell, dict | list) for record in records for cell in record.values())
    if len(records) < len(items) or not flat or not 0 < len(columns) <= TABLE_COLUMNS:
        return None
    shown = [[_cell(record.get(name)) for name in columns] for record in records[:TABLE_ROWS]]
    lines = [_row([inert(name) for name in columns]), _row(["---"] * len(columns)), *map(_row, shown)]
    if len(records) > TABLE_ROWS:
        whole = json.dumps(records, indent=2, ensure_ascii=False)
        lines += ["", f"*{TABLE_ROWS} of {len(records):,} rows.*", "", code(whole, "json")]
    return "\n".join(lines)


def size_text(size: int) -> str:
    """A number of bytes, in a few characters."""
    if size < 1_000:
        return f"{size} bytes"
    return f"{size / 1_000:.3g} kB" if size < 999_500 else f"{size / 1_000_000:,.3g} MB"


def seconds_text(seconds: float) -> str:
    """A duration, in a few characters."""
    if seconds < 9.95:
        return f"{max(seconds, 0.1):.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(content: object) -> str:
    words = _scalar(content)
    return inert(words if len(words) <= CELL else f"{words[:CELL]}…")


def _scalar(content: object) -> str:
    if content is None:
        return NOTHING
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _outline(content: object, indent: str = "") -> list[str]:
    if isinstance(content, dict):
        fields = cast("dict[str, object]", content).items()
    elif isinstance(content, list):
        fields = [(str(number), item) for number, item in enumerate(cast("list[object]", content), start=1)]
    else:
        return [f"{indent}{inert(_scalar(content))}"]
    return [line for name, field in fields for line in _labelled(name, field, indent)]


def _labelled(name: str, content: object, indent: str = "") -> list[str]:
    label = f"{indent}- **{inert(name)}:**"
    if not isinstance(content, dict | list):
        return [f"{label} {inert(_scalar(content))}"]
    if not content:
        return [f"{label} {NOTHING}"]
    items = cast("list[object]", content) if isinstance(content, list) else []
    if items and not any(isinstance(item, dict | list) for item in items):
        return [f"{label} {inert(', '.join(map(_scalar, items)))}"]
    return [label, *_outline(cast("object", content), f"{indent}  ")]


def _json_value(content: str) -> Any:
    """The value that a text is the JSON of; `None` also when it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # Not JSON, or nested deeper than Python goes.
        return None
