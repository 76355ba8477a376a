"""Whether others can reach the chat is told by what Gradio is told."""

from collections.abc import Callable

import pytest

from chat.exposure import is_exposed
from chat.settings import Settings
from tests.browser import Chat


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


def test_a_paid_model_for_others_without_limits_or_login_is_warned_of_with_the_setting(
    start_chat: Callable[..., Chat],
) -> None:
    paid = {"CHAT_MODEL": "openai-chat:gpt-5", "OPENAI_API_KEY": "none", "CHAT_ALLOWED_HOSTS": "chat.example.org"}
    warning = "WARNING: Others can reach this chat, and nothing limits what they may spend on its model. Set CHAT_TOTAL"
    assert warning in start_chat("--total-limits", "off", **paid).output
