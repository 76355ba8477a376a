"""Memory that large replies took goes back to the system."""

import subprocess
import sys

import pytest

# In a process of its own: the setting holds for good, and memory that is free already would hide what is kept.
GROWTH = """
from pathlib import Path
from chat.memory import hand_back_large_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

hand_back_large_memory()
del [bytes(30_000_000)][0]  # From now on glibc would keep what is smaller.
before, kept = resident(), []
for _ in range(5):
    large = [bytes(1_000_000) for _ in range(100)]
    kept += [bytes(50_000) for _ in range(10)]
    for _ in range(100):
        large.pop(0)
        kept.append(bytes(1_000))
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own count of the process's memory")
def test_what_large_replies_took_is_handed_back_though_small_things_stay() -> None:
    ended = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 10_000_000
