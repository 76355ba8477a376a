"""What a browser may load and run for a page: its Content Security Policy.

Gradio's page holds scripts of its own, without which it doesn't work, and makes functions of text (`unsafe-eval`). Each
script that the server put there is named by its hash, so that none is run that came with a message: no script, no
`onerror`, no `javascript:`. Nothing is loaded from elsewhere either: an image's address can carry a conversation away.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SCRIPT = re.compile(r"<script\b([^>]*)>(.*?)</script>", re.DOTALL | re.IGNORECASE)
_SOURCE = re.compile(r"""\bsrc\s*=\s*["']([^"']+)["']""", re.IGNORECASE)


class Policy:
    """The policy of this chat's answers.

    Args:
        head: What Gradio's page adds to its head: its scripts may run.
        image_hosts: Hosts whose images are shown; `*.example.org` stands for all below it.
        frames: Sites that may show the page in a frame, beside the chat's own.
    """

    def __init__(self, *, head: str, image_hosts: Iterable[str], frames: Iterable[str]) -> None:
        self._scripts = _script_sources(head)
        self._images = " ".join(f"https://{host}" for host in image_hosts)
        self._frames = " ".join(frames)

    def text(self, page: str = "") -> str:
        """The policy of a page, given as HTML; of an answer that is none, which runs nothing, without it."""
        scripts = " ".join(["'self'", "'unsafe-eval'", *self._scripts, *_script_sources(page)]) if page else "'none'"
        return "; ".join(
            " ".join(directive.split())
            for directive in (
                "default-src 'self'",
                f"script-src {scripts}",
                "style-src 'self' 'unsafe-inline'",
                f"img-src 'self' data: blob: {self._images}",
                f"media-src 'self' data: blob: {self._images}",
                "font-src 'self' data:",
                "connect-src 'self' data: blob:",
                "worker-src 'self' blob:",
                "object-src 'none'",
                "base-uri 'self'",
                "form-action 'self'",
                f"frame-ancestors 'self' {self._frames}",
            )
        )


class PagePolicy:
    """ASGI middleware that gives Gradio's pages their policy. It must see them before they are compressed."""

    def __init__(self, app: ASGIApp, *, policy: Policy) -> None:
        self.app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        page = b""

        async def send_with_policy(message: Message) -> None:
            nonlocal start, page
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_page = headers.get("content-type", "").startswith("text/html")
                if is_page and "content-security-policy" not in headers:
                    start = message
                    return
            elif start is not None:
                page += message.get("body", b"")
                if message.get("more_body"):
                    return
                policy = self._policy.text(page.decode(errors="replace"))
                MutableHeaders(scope=start)["content-security-policy"] = policy
                await send(start)
                start, message = None, {"type": "http.response.body", "body": page}
            await send(message)

        await self.app(scope, receive, send_with_policy)


def _script_sources(page: str) -> list[str]:
    """What a policy has to allow for the scripts in some HTML of the server's own."""
    sources: list[str] = []
    for attributes, script in _SCRIPT.findall(page):
        elsewhere = _SOURCE.search(attributes)
        if not elsewhere:
            digest = hashlib.sha256(script.encode(errors="replace")).digest()
            sources.append(f"'sha256-{base64.b64encode(digest).decode()}'")
        elif urlsplit(elsewhere[1]).netloc:  # Gradio's page for share links takes its scripts from its own host.
            sources.append(f"https://{urlsplit(elsewhere[1]).netloc}")
    return sources
