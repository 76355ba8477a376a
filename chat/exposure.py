"""Whether others than those on this machine can reach the chat. It decides what is safe where nothing was set."""

import os
from collections.abc import Mapping
from ipaddress import ip_address


def is_exposed(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether Gradio will serve the chat to others, as its variables say: beyond loopback, by a link, or on a Space.

    A path that it is served under is a sign of a proxy. A proxy on this machine without one can't be known of.
    """
    link = environment.get("GRADIO_SHARE", "").lower() == "true"
    space = environment.get("SYSTEM") == "spaces"
    path = environment.get("GRADIO_ROOT_PATH", "").strip("/")
    return link or space or bool(path) or not _is_loopback(environment.get("GRADIO_SERVER_NAME") or "127.0.0.1")


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower() == "localhost"
