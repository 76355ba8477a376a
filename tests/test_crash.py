"""A server that is killed at any moment loses at most half a second of text, and nothing else."""

import asyncio
from pathlib import Path

from tests.crash import AT_ONCE, crash

KILLS = 20


def test_a_server_that_is_killed_while_it_writes_keeps_prompts_text_and_tool_results_and_goes_on(
    tmp_path: Path,
) -> None:
    # What must hold after each kill is checked there; `python -m tests.crash 200` does ten times as many.
    report = asyncio.run(crash(KILLS, tmp_path, seed=1))
    print(report)
    assert report.kills == KILLS
    assert len(report.lost_ms) > KILLS * AT_ONCE / 2
    assert report.running_tools > 0
