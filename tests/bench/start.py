"""How long it takes from starting the program to its first page, against a stock `gr.ChatInterface`."""

import re
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.program import Program, parley, parley_as_installed, stock
from tests.bench.table import Table

LISTED = 10
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| +(\S+)")

Start = Callable[[Path], AbstractContextManager[Program]]


def measure(quick: bool) -> list[Table]:
    """Starts that alternate, and what only Parley imports."""
    rounds = 3 if quick else 7
    programs: dict[str, Start] = {
        "stock gr.ChatInterface": lambda directory: stock(),
        "Parley, with its requirements.txt": parley,
        "Parley, logfire and its plugin installed too": parley_as_installed,
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, start in programs.items():
            with tempfile.TemporaryDirectory() as directory, start(Path(directory)) as program:
                seconds[name].append(program.started_in)
    # The first round warms the disk's cache.
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    first = next(iter(medians.values()))
    targets = ("", "≤ 1.15", "")
    rows = [
        (name, median, min(seconds[name][1:]), max(seconds[name][1:]), median / first, target)
        for (name, median), target in zip(medians.items(), targets, strict=True)
    ]
    note = (
        f"From the process's start until GET / answers 200, in s; {rounds} starts each, alternating, with a new "
        "database. Both import the same agent, of `FunctionModel`."
    )
    columns = ("program", "median, s", "fastest", "slowest", "ratio", "target")
    return [Table("Start", columns, rows, note), _imports()]


def _imports() -> Table:
    """The packages of which Parley imports more than the stock app, by what these modules cost."""
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = Path(name) / "parley.txt", Path(name) / "stock.txt"
        with parley(Path(name), log=ours), stock(log=theirs):
            pass
        common = _modules(theirs)
        extra = {module: cost for module, cost in _modules(ours).items() if module not in common}
    cost: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for module, microseconds in extra.items():
        package = module.partition(".")[0]
        cost[package] += microseconds
        count[package] += 1
    rows = [(package, cost[package] / 1000, count[package]) for package, _ in cost.most_common(LISTED)]
    note = f"{len(extra):,} modules more than the stock app, {sum(cost.values()) / 1000:.0f} ms, under `-X importtime`."
    return Table(
        "What Parley imports beyond the stock app", ("package", "ms in its own modules", "modules"), rows, note
    )


def _modules(log: Path) -> dict[str, int]:
    """Microseconds that each module took by itself."""
    return {name: int(alone) for alone, _, name in _IMPORT.findall(log.read_text())}


if __name__ == "__main__":
    for table in measure(quick=False):
        print(table.markdown(), end="\n\n")
