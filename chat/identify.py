"""Finding out who is asking, before a request is answered.

In this order: whoever signed in with the browser's token; the person at this computer, while nobody else can reach the
chat; the visitor that the token stands for. Where people have to sign in, nobody else gets further than the login page.
"""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat.accounts import Accounts
from chat.address import address_of
from chat.database import DatabaseError
from chat.edge import path_of
from chat.identity import LIFETIME, Owner, new_token, owner_of, set_cookie, set_owner, token_of, visitor
from chat.local_person import is_local_person
from chat.services import Services
from chat.sessions import Session

PAGES = ("", "/", "/config", "/parley/api/about")
"""Where a visit begins: a browser's page, and what `gradio_client` and other programs ask for first. A page's other
requests run at the same time and would each bring home another token."""

TOOLS = "/parley/mcp"
"""Where other agents call, who keep no cookies."""

PUBLIC = ("/login", "/parley/health", "/parley/shared/", "/favicon.ico", "/robots.txt", "/gradio_api/startup-events")
"""What is answered to everybody, also where people have to sign in: by the beginning of its path. The last one is asked
by Gradio itself when it starts."""

LOCAL = Owner("local")
"""The person at this computer."""


@dataclass(frozen=True)
class Ways:
    """How people can be somebody else than their browser.

    Args:
        accounts: The accounts that one of has to be used, or `None` where nobody has to sign in.
        hugging_face: Whether people can sign in with Hugging Face.
        local: Whether nobody else than the person at this computer can reach the chat.
    """

    accounts: Accounts | None = None
    hugging_face: bool = False
    local: Callable[[], bool] = lambda: False

    def accept(self, session: Session) -> bool:
        """Whether a session still lets somebody in."""
        kind, _, name = session.owner.partition(":")
        if self.accounts is not None:
            return kind == "user" and self.accounts.accept(name, session.proof)
        return kind == "local" or (kind == "hf" and self.hugging_face)


class Identify:
    """ASGI middleware that finds out for whom each request acts, and gives new browsers their token."""

    def __init__(self, app: ASGIApp, *, ways: Ways) -> None:
        self.app = app
        self._ways = ways

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            cookie = await self._find(connection)
        except DatabaseError as error:
            await PlainTextResponse(str(error), 503)(scope, receive, send)
            return
        path = path_of(scope)
        if self._ways.accounts is not None and owner_of(connection) is None and not path.startswith(PUBLIC):
            await _sign_in(scope, path)(scope, receive, send)
        else:
            await self.app(scope, receive, send if cookie is None else _with_cookie(send, cookie))

    async def _find(self, connection: HTTPConnection) -> str | None:
        """Find the owner and note it; the header of a cookie, if the browser is to get one."""
        scope, services, token = connection.scope, _services(connection), token_of(connection)
        session = None if token is None else await services.sessions.find(token)
        if session is not None and self._ways.accept(session):
            scope["state"]["session"] = session
            set_owner(scope, session.owner)
            return None
        begins = path_of(scope) in PAGES
        if self._ways.accounts is not None:
            set_owner(scope, None)
            return None
        if token is None and path_of(scope) == TOOLS:  # Without a session: each call would begin another.
            set_owner(scope, LOCAL if self._ways.local() and is_local_person(scope) else None)
            return None
        if begins and self._ways.local() and is_local_person(scope):
            before = None if token is None else visitor(token)
            given = await services.sessions.start(LOCAL, "", claimed=before, lifetime=LIFETIME)
            set_owner(scope, LOCAL)
        else:
            set_owner(scope, None if token is None else visitor(token, address_of(scope)))
            if token is not None or not begins:
                return None
            given = new_token()
        return set_cookie(scope, given)


def session_of(connection: HTTPConnection) -> Session | None:
    """The session of whoever signed in and asks."""
    return connection.scope["state"].get("session")


def _services(connection: HTTPConnection) -> Services:
    return connection.scope["state"]["services"]


def _sign_in(scope: Scope, path: str) -> Response:
    if path in ("", "/"):
        return RedirectResponse(f"{scope.get('root_path', '')}/login", 303)
    return PlainTextResponse("Sign in first.", 401)


def _with_cookie(send: Send, cookie: str) -> Send:
    async def send_with_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).append("set-cookie", cookie)
        await send(message)

    return send_with_cookie
