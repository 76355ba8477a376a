"""Starts the program as a Space does and talks with it: `.ci/space` makes the environment and calls this.

`python -m tests.space HOME` runs in the environment that a Space installs, which has none of the tests' own packages.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from chat.weights import QWEN_FILE, QWEN_REPO, SMOL_SHA256, fetch_weights
from tests.protocol import Visitor, shown

ROOT = Path(__file__).parent.parent
START_SECONDS = 90

VARIABLES = {
    "SYSTEM": "spaces",
    "SPACE_ID": "somebody/parley",
    "SPACE_AUTHOR_NAME": "somebody",
    "SPACE_REPO_NAME": "parley",
    "SPACE_TITLE": "Parley",
    "SPACE_HOST": "somebody-parley.hf.space",
    "SPACE_CREATOR_USER_ID": "0123456789abcdef01234567",
    "GRADIO_SERVER_NAME": "0.0.0.0",  # noqa: S104  # As on a Space.
    "GRADIO_SSR_MODE": "True",
    "GRADIO_ALLOW_FLAGGING": "never",
    "GRADIO_CACHE_EXAMPLES": "true",
    "GRADIO_NUM_PORTS": "1",
    "OAUTH_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
    "OAUTH_CLIENT_SECRET": "secret",
    "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": "https://huggingface.co",
    "CPU_CORES": "2",
    "MEMORY": "16Gi",
}
"""What a Space with `hf_oauth` sets."""


def preload(home: str) -> None:
    """Put the small model where `preload_from_hub` puts the weights that the README names."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    cache = Path(os.environ.get("CHAT_TEST_CACHE") or Path.home() / ".cache" / "parley-tests")
    data = fetch_weights("", cache).path.read_bytes()
    repo, commit = Path(home) / ".cache/huggingface/hub" / f"models--{QWEN_REPO.replace('/', '--')}", "0" * 40
    for directory in ("blobs", "refs", f"snapshots/{commit}"):
        (repo / directory).mkdir(parents=True)
    (repo / "blobs" / SMOL_SHA256).write_bytes(data)
    (repo / "refs" / "main").write_text(commit, encoding="utf-8")
    (repo / "snapshots" / commit / QWEN_FILE).symlink_to(f"../../blobs/{SMOL_SHA256}")


@contextmanager
def space(home: str, **variables: str) -> Iterator[str]:
    """The program on a Space; its address. It must end by itself when it is asked to."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    environment = {"PATH": os.environ["PATH"], "HOME": home, "GRADIO_SERVER_PORT": str(port), **VARIABLES, **variables}
    process = subprocess.Popen([sys.executable, "-B", "app.py"], cwd=ROOT, env=environment)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                httpx.get(f"{url}/parley/health").raise_for_status()
                break
            except httpx.HTTPError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=START_SECONDS) == 0
    finally:
        process.kill()


async def ask(url: str, prompt: str) -> str:
    """What the chat answers to a visitor who comes through the Space's proxy."""
    async with Visitor(url, host=VARIABLES["SPACE_HOST"]) as visitor:
        messages, status = await visitor.last("chat", prompt, {"conversation": None})
    assert status["phase"] == "idle"
    return " ".join(shown(messages)[1:])


def main(home: str) -> None:
    """Start it as it is, with the embedded model; then with a home in which nothing can be written."""
    with space(home) as url:
        answer = asyncio.run(ask(url, "What is the capital of France?"))
        print(f"On a Space, offline, user {os.getuid()}: {answer!r}")
        assert "Paris" in answer
    with (
        tempfile.TemporaryDirectory() as data,
        space("/nonexistent", CHAT_AGENT="tests.scripted:agent", CHAT_DATABASE=f"{data}/chat.db") as url,
    ):
        answer = asyncio.run(ask(url, "echo without a home"))
        print(f"Without a home: {answer!r}")
        assert answer.startswith("without a home")


if __name__ == "__main__":
    main(sys.argv[1])
