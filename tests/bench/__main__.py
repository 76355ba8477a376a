"""Measure Parley, print the tables and, after a full run, keep them in `docs/`.

python -m tests.bench [--quick] [section ...]
"""

import argparse
import re
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from tests.bench.machine import machine, versions
from tests.bench.peers import ROOT
from tests.bench.table import Table

SECTIONS = MappingProxyType(
    {
        "browser": "In the browser",
        "load": "Many at a time",
        "store": "The store",
        "start": "The start",
        "memory": "Memory",
        "attachments": "Attachments",
        "library": "The library",
    }
)
"""Each section's module in this package and its heading."""

REPORT = ROOT / "docs" / "bench.md"
PICTURE = ROOT / "docs" / "bench.png"

HEAD = """# Benchmark

`python -m tests.bench` made this page; `--quick` measures less and only prints, and names of sections (browser, load,
store, start, memory, attachments, library) leave out the others. Figures depend on the machine: compare those of one
section.
"""


def main() -> None:
    """Measure what the command line asks for."""
    wanted, quick = _arguments()
    for name in wanted:
        print(f"\n{name}", flush=True)
        tables = import_module(f"tests.bench.{name}").measure(quick)
        section = _section(name, tables)
        print(f"\n{section}", flush=True)
        if not quick:
            _keep(name, section)
            if name == "browser":
                _draw(tables[0], PICTURE)


def _arguments() -> tuple[list[str], bool]:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure Parley.")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all without one")
    parser.add_argument("--quick", action="store_true", help="measure less, and only print")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"There is no section {', '.join(sorted(unknown))}. There are {', '.join(SECTIONS)}.")
    return arguments.sections or list(SECTIONS), arguments.quick


def _section(name: str, tables: list[Table]) -> str:
    browser = ""
    if name == "browser":
        from tests.bench.browser import browser_version

        browser = browser_version()
    measured = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}. {versions(browser)}."
    return "\n\n".join([f"## {SECTIONS[name]}", measured, *(table.markdown() for table in tables)])


def _keep(name: str, section: str) -> None:
    """Put a section into the report, in place of what it held before."""
    kept = _sections(REPORT)
    kept[SECTIONS[name]] = section
    ordered = [kept[heading] for heading in SECTIONS.values() if heading in kept]
    REPORT.write_text("\n\n".join([HEAD.rstrip(), *ordered]) + "\n", encoding="utf-8")


def _sections(report: Path) -> dict[str, str]:
    if not report.exists():
        return {}
    parts = re.split(r"^(?=## )", report.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].removeprefix("## "): part.rstrip() for part in parts}


def _draw(figures: Table, path: Path) -> None:
    try:
        from tests.bench.chart import draw
    except ImportError:
        print("No picture: `pip install -r tests/bench/requirements.txt` installs what draws it.")
        return
    draw(figures, path)


if __name__ == "__main__":
    main()
