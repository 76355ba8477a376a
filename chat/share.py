"""A public link to a chat on this machine: a tunnel to a server of Gradio's, opened while the chat already runs."""

import os
import threading
from collections.abc import Callable

import gradio as gr
from gradio import networking

from chat.settings import Settings
from chat.weights import one_line

PATIENCE_SECONDS = 45.0
"""How long nothing is said of a link that is still being opened."""

EXPOSED = (
    "Anybody who has the link can write to the model at your expense, and sees only what they wrote themselves. "
    "It ends with this program, and after a week at the latest."
)


def is_wanted(settings: Settings) -> bool:
    """Whether a public link was asked for, by the setting or by Gradio's own variable."""
    return settings.share or os.environ.get("GRADIO_SHARE", "").lower() == "true"


def open_link(demo: gr.Blocks, allow: Callable[[str], None], say: Callable[[str], None]) -> None:
    """Open a public link to a demo that serves, without waiting for it.

    Its host's name is allowed before anybody learns it. What comes of it is said in lines.
    """
    if os.environ.get("SYSTEM") == "spaces":
        say("There is no public link: a Space has an address of its own.")
        return
    told = threading.Event()

    def work() -> None:
        try:
            address = networking.setup_tunnel("127.0.0.1", demo.server_port, demo.share_token, None, None)
        except Exception as error:  # Gradio passes on what its HTTP client, the disk and the tunnel's program say.
            told.set()
            say(_sorry(f"could not be opened ({one_line(error)})", demo))
            return
        told.set()
        host = address.partition("://")[2]
        allow(host)
        demo.share_url = f"https://{host}"
        say(f"Public link:   {demo.share_url}\n{EXPOSED}")

    def wait() -> None:
        if not told.wait(PATIENCE_SECONDS):
            say(_sorry("is not there yet", demo))

    for each in (work, wait):
        threading.Thread(target=each, daemon=True, name="parley-share").start()


def _sorry(what: str, demo: gr.Blocks) -> str:
    return (
        f"The public link {what}. Check that this machine reaches the internet and start again; the chat goes on at "
        f"{demo.local_url}"
    )
