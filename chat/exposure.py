"""Whether others than those on this machine can reach the chat. It decides what is safe where nothing was set."""

import os
from collections.abc import Mapping
from ipaddress import ip_address

from chat.settings import Settings
from chat.share import is_wanted


def is_exposed(settings: Settings, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the chat will be served to others: beyond loopback, by a link, on a Space, or through a proxy.

    A proxy is known by the name that it is reached by, or the path that it adds.
    """
    space = environment.get("SYSTEM") == "spaces" or bool(environment.get("SPACE_HOST"))
    path = environment.get("GRADIO_ROOT_PATH", "").strip("/")
    beyond = not _is_loopback(environment.get("GRADIO_SERVER_NAME") or "127.0.0.1")
    return is_wanted(settings) or bool(settings.allowed_hosts) or space or bool(path) or beyond


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower() == "localhost"
