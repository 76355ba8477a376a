"""Try all attacks on a chat that is started for it, and count: `python -m tests.attacks [--record]`.

`--record` writes the count into SECURITY.md.
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from tests.attacks.all import try_all
from tests.attacks.stage import Case
from tests.browser import ROOT

_TABLE = re.compile(r"(?<=<!-- attacks -->\n).*?(?=<!-- /attacks -->)", re.DOTALL)


def _table(tried: dict[str, list[Case]]) -> str:
    rows = [(group, len(cases), sum(case.held for case in cases)) for group, cases in tried.items()]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    lines = ["| what was tried | cases | held |", "|---|---:|---:|"]
    return "\n".join([*lines, *(f"| {group} | {count:,} | {held:,} |" for group, count, held in rows)]) + "\n"


def main() -> int:
    """Try all; the number of cases that did not hold."""
    with tempfile.TemporaryDirectory() as directory:
        tried = asyncio.run(try_all(Path(directory)))
    failed = [case for cases in tried.values() for case in cases if not case.held]
    for case in failed:
        print(f"DID NOT HOLD: {case.name}: {case.saw}\n")
    print(table := _table(tried))
    if "--record" in sys.argv:
        file = ROOT / "SECURITY.md"
        file.write_text(_TABLE.sub(lambda _: table, file.read_text(encoding="utf-8")), encoding="utf-8")
    return len(failed)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
