"""Whether others can reach the chat is told by what Gradio is told."""

import pytest

from chat.exposure import is_exposed
from chat.settings import Settings


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"GRADIO_SERVER_NAME": ""},
        {"GRADIO_SERVER_NAME": "localhost"},
        {"GRADIO_SERVER_NAME": "127.0.0.2"},
        {"GRADIO_SERVER_NAME": "[::1]", "GRADIO_ROOT_PATH": "/"},
    ],
)
def test_a_chat_on_loopback_is_for_this_machine_only(environment: dict[str, str]) -> None:
    assert not is_exposed(Settings(), environment)


@pytest.mark.parametrize(
    "environment",
    [
        {"GRADIO_SERVER_NAME": "0.0.0.0"},  # noqa: S104  # Nothing is bound.
        {"GRADIO_SERVER_NAME": "::"},
        {"GRADIO_SERVER_NAME": "chat.example.com"},
        {"SYSTEM": "spaces"},
        {"SPACE_HOST": "anna-chat.hf.space"},
        {"GRADIO_ROOT_PATH": "/chat"},
    ],
)
def test_any_other_address_a_space_and_a_path_behind_a_proxy_are_for_others(environment: dict[str, str]) -> None:
    assert is_exposed(Settings(), environment)


@pytest.mark.parametrize("settings", [Settings(share=True), Settings(allowed_hosts=("chat.example.org",))])
def test_so_is_a_chat_with_a_link_or_a_name_that_a_proxy_gives_it(settings: Settings) -> None:
    assert is_exposed(settings, {})
