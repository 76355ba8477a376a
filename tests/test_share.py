"""A public link is opened beside a chat that already runs, and a chat without one runs as well."""

import threading
from collections.abc import Callable
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from chat import share
from chat.settings import Settings
from chat.share import is_wanted, open_link


@pytest.fixture
def demo() -> Any:
    return SimpleNamespace(
        local_url="http://127.0.0.1:7860/",
        server_port=7860,
        share_token="token",  # noqa: S106
        share_url=None,
    )


@pytest.fixture(autouse=True)
def not_on_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SYSTEM", "GRADIO_SHARE"):
        monkeypatch.delenv(name, raising=False)


def opened(demo: Any, allow: Callable[[str], None] = lambda host: None) -> str:
    """What is said of the link."""
    said: Queue[str] = Queue()
    open_link(demo, allow, said.put)
    return said.get(timeout=30)


def test_without_internet_one_sentence_says_so_and_where_the_chat_goes_on(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # Nobody listens there.
    said = opened(demo)
    assert said.startswith("The public link could not be opened (")
    assert said.endswith("the internet and start again; the chat goes on at http://127.0.0.1:7860/")
    assert "\n" not in said
    assert demo.share_url is None


def test_the_link_is_said_with_what_it_exposes_and_its_host_is_known_before(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[str] = []
    monkeypatch.setattr(share.networking, "setup_tunnel", lambda *_: "http://abc.gradio.live")
    said = opened(demo, allowed.append)
    assert said == f"Public link:   https://abc.gradio.live\n{share.EXPOSED}"
    assert (demo.share_url, allowed) == ("https://abc.gradio.live", ["abc.gradio.live"])


def test_a_link_that_takes_long_is_said_to_be_missing_and_given_when_it_comes(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = threading.Event()

    def wait(*_: object) -> str:
        ready.wait(30)
        return "http://abc.gradio.live"

    monkeypatch.setattr(share, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(share.networking, "setup_tunnel", wait)
    said: Queue[str] = Queue()
    open_link(demo, lambda host: None, said.put)
    assert said.get(timeout=30).startswith("The public link is not there yet.")
    ready.set()
    assert said.get(timeout=30).startswith("Public link:   https://abc.gradio.live")


def test_a_space_has_its_own_address(demo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEM", "spaces")
    assert opened(demo) == "There is no public link: a Space has an address of its own."


def test_the_setting_and_gradios_variable_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_wanted(Settings())
    assert is_wanted(Settings(share=True))
    monkeypatch.setenv("GRADIO_SHARE", "True")
    assert is_wanted(Settings())
