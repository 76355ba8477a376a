"""Starting and ending the program: what bad input gets, and what it says when it serves."""

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from chat.database import SCHEMA_VERSION
from chat.server import Server, StartError
from chat.settings import read_settings
from tests.browser import ROOT, START_SECONDS, Chat, ask, open_page, replies


def start(*arguments: str) -> None:
    Server(read_settings(list(arguments))).run()


class TestBadInput:
    @pytest.fixture(autouse=True)
    def in_an_empty_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("CHAT_DATABASE", str(tmp_path / "new" / "chat.db"))
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--model", "nonsense"], "Unknown model: nonsense.*Set CHAT_MODEL"),
            (["--model", "openai:gpt-5"], "OPENAI_API_KEY"),
            (["--agent", "no_such_module:agent"], "can't be imported: No module named 'no_such_module'.*CHAT_AGENT"),
            (["--agent", "os:sep"], "is str, not an Agent"),
            (["--agent", "tests.scripted"], "module:attribute"),
            (["--model", "local:/missing.gguf"], "missing.gguf"),
        ],
        ids=["unknown model", "missing key", "unimportable agent", "not an agent", "no attribute", "missing weights"],
    )
    def test_it_is_one_sentence_and_nothing_is_created(
        self, arguments: list[str], sentence: str, tmp_path: Path
    ) -> None:
        with pytest.raises(StartError, match=f"^[^\n]*{sentence}[^\n]*$"):
            start(*arguments)
        assert list(tmp_path.iterdir()) == []

    def test_a_newer_database_is_refused_before_anything_else_happens(self, tmp_path: Path) -> None:
        path = tmp_path / "newer.db"
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA application_id = 0x5061726C")
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        database.close()
        before = path.read_bytes()
        with pytest.raises(StartError, match="written by a newer version of Parley"):
            start("--agent", "tests.scripted:agent", "--database", str(path))
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


class TestProgram:
    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "app.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )

    def test_what_it_can_not_use_ends_it_with_one_sentence_and_no_traceback(self, tmp_path: Path) -> None:
        ended = self.run("--model", "nonsense:model", CHAT_DATABASE=str(tmp_path / "chat.db"))
        assert ended.returncode == 1
        assert ended.stdout == ""
        assert ended.stderr.count("\n") == 1
        assert ended.stderr.startswith("Parley can't start. The model 'nonsense:model' can't be used")

    def test_a_port_in_use_is_named_and_nothing_is_created(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            ended = self.run(
                "--agent",
                "tests.scripted:agent",
                CHAT_DATABASE=str(tmp_path / "new" / "chat.db"),
                GRADIO_SERVER_PORT=port,
            )
        assert ended.returncode == 1
        assert ended.stderr == (
            f"Parley can't start. Port {port} is taken. Set GRADIO_SERVER_PORT to another, or stop what uses it.\n"
        )
        assert list(tmp_path.iterdir()) == []

    def test_a_database_that_another_chat_has_open_is_refused(self, chat: Chat) -> None:
        ended = self.run("--agent", "tests.scripted:agent", CHAT_DATABASE=str(chat.database))
        assert ended.returncode == 1
        assert ended.stderr == (
            f"Parley can't start. {chat.database} is open in another running chat. "
            "Stop that one, or set CHAT_DATABASE to another file.\n"
        )

    def test_it_says_where_the_chat_is_which_model_answers_and_which_file_keeps_it(self, chat: Chat) -> None:
        assert chat.lines[:3] == [
            f"Chat:          {chat.url}/",
            "Model:         scripted",
            f"Conversations: {chat.database}",
        ]

    def test_while_nobody_sends_anything_gradio_looks_a_hundred_times_a_second(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits: list[float] = []

        async def look() -> None:
            queue = Server(read_settings(["--agent", "tests.scripted:agent"])).demo._queue

            async def sleep(seconds: float) -> None:
                waits.append(seconds)
                queue.stopped = True

            with monkeypatch.context() as patched:
                patched.setattr(asyncio, "sleep", sleep)
                for loop in (queue.start_processing, queue.start_progress_updates):
                    queue.stopped = False
                    await loop()

        asyncio.run(look())
        assert waits == [0.01, 1]

    def test_gradios_hot_reload_serves_it_too(self, tmp_path: Path, visitor: BrowserContext) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            **os.environ,
            "CHAT_DATABASE": str(tmp_path / "chat.db"),
            "CHAT_AGENT": "tests.scripted:agent",
            "GRADIO_SERVER_PORT": str(port),
        }
        command = [str(Path(sys.executable).with_name("gradio")), "app.py"]
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if line.startswith("Conversations:"):
                        break
                page = open_page(visitor, f"http://127.0.0.1:{port}")
                ask(page, "echo reloaded")
                assert replies(page) == ["reloaded"]
            finally:
                subprocess.run(["pkill", "-P", str(process.pid)], check=False)
                process.kill()


class TestTracing:
    def test_runs_and_statements_become_spans_and_nothing_is_sent_without_a_token(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        script = """
import asyncio, sys
from logfire.testing import TestExporter
import logfire
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from chat.server import set_up_tracing
exporter = TestExporter()
configure = logfire.configure
logfire.configure = lambda **given: configure(**given, additional_span_processors=[SimpleSpanProcessor(exporter)])
set_up_tracing()
from chat.store import SQLiteConversationStore
from tests.scripted import agent
async def main():
    async with SQLiteConversationStore(sys.argv[1]) as store:
        async with agent.run_stream_events("echo hi") as events:
            async for event in events:
                pass
        await store.save(event.result)
asyncio.run(main())
names = {span.name for span in exporter.exported_spans}
print(sorted(name for name in names if name.isupper() or "scripted" in name))
"""
        monkeypatch.delenv("LOGFIRE_TOKEN", raising=False)
        ran = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "chat.db")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=True,
        )
        assert "'INSERT'" in ran.stdout
        assert "chat scripted" in ran.stdout
        assert ran.stderr == ""

    def test_it_starts_without_logfire(self, start_chat: Callable[..., Chat], tmp_path: Path) -> None:
        (tmp_path / "logfire.py").write_text("raise ImportError('not installed')")
        chat = start_chat("--agent", "tests.scripted:agent", PYTHONPATH=str(tmp_path))
        assert chat.lines[-1].startswith("Conversations:")
        assert chat.stop() == 0
