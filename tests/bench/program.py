"""Programs that the benchmark starts, each in a process of its own with nothing of the person's own settings."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
AGENT = "tests.bench.apps.model:agent"
START_SECONDS = 120
POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Program:
    """A web app that serves.

    Attributes:
        url: Where, without a slash at the end.
        process: What the system knows of its process.
        started_in: Seconds from the process's start to the first page.
    """

    url: str
    process: psutil.Process
    started_in: float

    def cpu_seconds(self) -> float:
        """What the process has computed so far, on all cores, in seconds."""
        times = self.process.cpu_times()
        return times.user + times.system

    def resident_mib(self) -> float:
        """Memory of the process that is in RAM, in MiB."""
        return self.process.memory_info().rss / 2**20


_CHAT = """
import runpy, sys
sys.modules["logfire"] = None  # As `pip install -r requirements.txt` gives it: an installed logfire turns tracing on.
runpy.run_path("app.py", run_name="__main__")
"""


@contextmanager
def serving(command: Sequence[str], port: int, *, log: Path | None = None, **environment: str) -> Iterator[Program]:
    """Start `python <command>`, wait for its first page, and kill it at the end.

    `log` takes what it writes, with the time of each import.
    """
    url = f"http://127.0.0.1:{port}"
    # An installed logfire would load itself into every pydantic model.
    quiet = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
    quiet["CHAT_TITLES"] = "false"  # No other chat asks its model for them.
    quiet["CHAT_LOCAL"] = "false"  # Each page is somebody else's.
    told = {"PYTHONPROFILEIMPORTTIME": "1"} if log else {}
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("CHAT_", "GRADIO_", "PYTHON"))
    }
    begin = time.perf_counter()
    with (log or Path(os.devnull)).open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=inherited | quiet | told | environment,
            stdout=subprocess.DEVNULL,
            stderr=output,
        )
    try:
        _wait_for_page(url, process)
        yield Program(url, psutil.Process(process.pid), time.perf_counter() - begin)
    finally:
        process.kill()
        process.wait()


def parley(directory: Path, agent: str = AGENT, log: Path | None = None) -> AbstractContextManager[Program]:
    """The chat as `app.py` runs it, with the database `chat.db` in a directory."""
    return _parley(["-c", _CHAT], directory, agent, log)


def parley_as_installed(directory: Path) -> AbstractContextManager[Program]:
    """The same in this environment, which may have more than the chat needs."""
    return _parley(["app.py"], directory, AGENT, None, PYDANTIC_DISABLE_PLUGINS="")


def _parley(
    command: Sequence[str], directory: Path, agent: str, log: Path | None, **environment: str
) -> AbstractContextManager[Program]:
    port = free_port()
    settings = ["--agent", agent, "--database", str(directory / "chat.db")]
    return serving([*command, *settings], port, log=log, GRADIO_SERVER_PORT=str(port), **environment)


def stock(log: Path | None = None) -> AbstractContextManager[Program]:
    """A `gr.ChatInterface` with the same agent."""
    port = free_port()
    return serving(["-m", "tests.bench.apps.stock", str(port), "0"], port, log=log)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_page(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.perf_counter() + START_SECONDS
    while time.perf_counter() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/", timeout=START_SECONDS) as page:  # noqa: S310  # Our own address.
                if page.status == 200:
                    return
        except OSError:
            time.sleep(POLL_SECONDS)
    raise RuntimeError(f"The program at {url} did not serve a page within {START_SECONDS} s.")
