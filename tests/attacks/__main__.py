"""Try all attacks on a chat that is started for it, and count: `python -m tests.attacks [--times] [--record]`.

`--times` also measures whether somebody else's thing and a missing one can be told apart by how long the answer takes.
`--record` writes the figures into SECURITY.md.
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from tests.attacks import times
from tests.attacks.all import stand, try_all
from tests.attacks.stage import Case
from tests.browser import ROOT


def _table(tried: dict[str, list[Case]]) -> str:
    rows = [(group, len(cases), sum(case.held for case in cases)) for group, cases in tried.items()]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    lines = ["| what was tried | cases | held |", "|---|---:|---:|"]
    return "\n".join([*lines, *(f"| {group} | {count:,} | {held:,} |" for group, count, held in rows)]) + "\n"


async def _measure(directory: Path) -> str:
    async with stand(directory) as prepared:
        return times.table([each async for each in times.measured(prepared)])


def _record(name: str, table: str) -> None:
    file = ROOT / "SECURITY.md"
    place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
    file.write_text(place.sub(lambda _: table, file.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> int:
    """Try all; the number of cases that did not hold."""
    with tempfile.TemporaryDirectory() as directory:
        tried = asyncio.run(try_all(Path(directory)))
    failed = [case for cases in tried.values() for case in cases if not case.held]
    for case in failed:
        print(f"DID NOT HOLD: {case.name}: {case.saw}\n")
    tables = {"attacks": _table(tried)}
    if "--times" in sys.argv:
        with tempfile.TemporaryDirectory() as directory:
            tables["times"] = asyncio.run(_measure(Path(directory)))
    for name, table in tables.items():
        print(table)
        if "--record" in sys.argv:
            _record(name, table)
    return len(failed)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
