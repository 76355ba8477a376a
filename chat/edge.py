"""The edge: what every request has to be before anything of the chat or of Gradio sees it.

It must name a host that this chat is known by (a page of another name that was made to point here, as DNS rebinding
does, gets nothing), come from a page of this chat or from no page at all, and not be larger than anything it can be
for. What is answered tells browsers to load and run only what belongs to the chat.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat.policy import Policy

SPACES_FRAME = "https://huggingface.co"
"""Where the page of a Space is shown in a frame."""

_ADDRESS = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]/\\@?#:,]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(r"(https?)://(.+)", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # not bound here, only recognised
_SHOWN = 100

_FORWARDED_HOST, _TUNNEL = b"x-forwarded-host", b"x-gradio-server"
"""Where a proxy, and the tunnel of a share link, say by which name the page was asked for."""


class Hosts:
    """The names that this chat is known by.

    Args:
        bound: The name or address that the server listens on.
        public: Names by which others reach it, through a proxy or a tunnel; `*.example.org` stands for all below it.
    """

    def __init__(self, bound: str, public: Iterable[str] = ()) -> None:
        self._bound = bound.strip("[]").lower()
        self._everywhere = self._bound in _ANY_ADDRESS
        self._public = set(map(str.lower, public))
        if self._everywhere:
            self._public.add(socket.gethostname().lower())

    def add(self, name: str) -> None:
        """Be known by another name: that of a share link, which is only given once the chat serves."""
        self._public.add(name.lower())

    def know(self, name: str) -> bool:
        """Whether a request may name this host."""
        if name == self._bound or self.are_public(name):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost"
        # Nobody can make the name of a page of theirs an address, so one that is asked for was typed.
        return address.is_loopback or self._everywhere

    @property
    def are_this_computers(self) -> bool:
        """Whether only programs of this computer can connect."""
        return self._bound == "localhost" or _is_loopback(self._bound)

    def are_public(self, name: str) -> bool:
        """Whether this is a name by which others reach the chat."""
        return name in self._public or any(f"*{name[at:]}" in self._public for at in _dots(name))


class Edge:
    """ASGI middleware that refuses what is not for this chat, and adds the headers that protect a page.

    Args:
        app: What is behind it.
        hosts: The names that this chat is known by.
        policy: What a browser may load for an answer that says nothing about it itself.
        limits: Bytes that a request's body may have, by the beginning of its path. The longest that fits counts.
    """

    def __init__(self, app: ASGIApp, *, hosts: Hosts, policy: Policy, limits: Mapping[str, int]) -> None:
        self.app = app
        self._hosts = hosts
        self._limits = sorted(limits.items(), key=lambda each: len(each[0]), reverse=True)
        self._headers = {
            "content-security-policy": policy.text(),
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), display-capture=(), geolocation=(), payment=(), usb=()",
            "x-dns-prefetch-control": "off",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, self._protected(send))
        else:  # The chat has no web sockets.
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        limit = next(size for start, size in self._limits if path_of(scope).startswith(start))
        await _with_limit(self.app, limit, self._known_by_our_names(scope), receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        named = headers.getlist("host")
        host = address(named[0]) if len(named) == 1 else None
        if host is None:
            return PlainTextResponse("This request does not say for which host it is.", 400)
        if not self._hosts.know(host[0]):
            return PlainTextResponse(
                f"This chat is not known by the name {host[0][:_SHOWN]}. If that is its name, add it to "
                "CHAT_ALLOWED_HOSTS where the chat is started.",
                421,
            )
        if any(not self._is_ours(origin, host) for origin in headers.getlist("origin")):
            return PlainTextResponse(
                "This request comes from a page of another site. If that page is the chat's own, add its name to "
                "CHAT_ALLOWED_HOSTS where the chat is started.",
                403,
            )
        if _is_of_another_page(scope, headers):
            return PlainTextResponse("This request comes from a page of another site.", 403)
        return None

    def _is_ours(self, origin: str, host: tuple[str, str]) -> bool:
        found = _ORIGIN.fullmatch(origin)
        named = found and address(found[2])
        if not found or not named:
            return False
        default = _DEFAULT_PORTS[found[1].lower()]
        # A proxy may have changed the host, and its port, on the way; the browser names what was typed.
        same = (named[0], named[1] or default) == (host[0], host[1] or default)
        return same or self._hosts.are_public(named[0])

    def _known_by_our_names(self, scope: Scope) -> Scope:
        """The same request without foreign names: Gradio has the page load all it needs from where they say it is."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        host = dict(headers)[b"host"]
        ours = [
            # Replaced, not left out: that there is a proxy is told by it.
            (name, host if name == _FORWARDED_HOST and not self._are_ours(value) else value)
            for name, value in headers
            if name != _TUNNEL or self._are_ours(value.partition(b"://")[2].rstrip(b"/"))
        ]
        return {**scope, "headers": ours}

    def _are_ours(self, names: bytes) -> bool:
        found = [address(name.strip()) for name in names.decode("latin-1").split(",")]
        return all(name is not None and self._hosts.know(name[0]) for name in found)

    def _protected(self, send: Send) -> Send:
        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        return send_protected


def path_of(scope: Scope) -> str:
    """A request's path, from the page's root on."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


def address(text: str) -> tuple[str, str] | None:
    """The name in lower case and the port, if there is one, of what a `Host` header says; `None` for nonsense."""
    found = _ADDRESS.fullmatch(text)
    return (found[1].lower().strip("[]").removesuffix("."), found[2] or "") if found else None


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _dots(name: str) -> list[int]:
    return [at for at, letter in enumerate(name) if letter == "."]


def _is_of_another_page(scope: Scope, headers: Headers) -> bool:
    """Whether a browser says that another site's page wants this for itself, and isn't just leading here.

    Two programs on one computer are the same "site": what comes from the other is foreign all the same.
    """
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    leads_here = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in ("GET", "HEAD")
    # Which pages may show it in a frame is said by the policy of the answer.
    return not (leads_here and headers.get("sec-fetch-dest") in ("document", "iframe", None))


async def _with_limit(app: ASGIApp, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request, but answer with 413 as soon as its body turns out to be larger than `limit`."""
    refusal = PlainTextResponse(f"This is larger than what can be sent here: {limit:,} bytes.", 413)
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isdecimal() or int(length) > limit:
        await refusal(scope, receive, send)
        return
    received = 0
    started = refused = False

    async def receive_within() -> Message:
        nonlocal received, refused
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit and not refused:
            refused = True
            if not started:
                await refusal(scope, receive, send)
        # Whoever reads the body takes the client for gone.
        return {"type": "http.disconnect"} if refused else message

    async def send_unless_refused(message: Message) -> None:
        nonlocal started
        if not refused:
            started = True
            await send(message)

    try:
        await app(scope, receive_within, send_unless_refused)
    except Exception:
        if not refused:
            raise
