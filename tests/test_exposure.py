"""Whether others can reach the chat is told by what Gradio is told."""

import pytest

from chat.exposure import is_exposed


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"GRADIO_SERVER_NAME": ""},
        {"GRADIO_SERVER_NAME": "localhost"},
        {"GRADIO_SERVER_NAME": "127.0.0.2"},
        {"GRADIO_SERVER_NAME": "[::1]", "GRADIO_SHARE": "False", "GRADIO_ROOT_PATH": "/"},
    ],
)
def test_a_chat_on_loopback_is_for_this_machine_only(environment: dict[str, str]) -> None:
    assert not is_exposed(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {"GRADIO_SERVER_NAME": "0.0.0.0"},  # noqa: S104  # Nothing is bound.
        {"GRADIO_SERVER_NAME": "::"},
        {"GRADIO_SERVER_NAME": "chat.example.com"},
        {"GRADIO_SHARE": "True"},
        {"SYSTEM": "spaces"},
        {"GRADIO_ROOT_PATH": "/chat"},
    ],
)
def test_any_other_address_a_link_a_space_and_a_path_behind_a_proxy_are_for_others(environment: dict[str, str]) -> None:
    assert is_exposed(environment)
