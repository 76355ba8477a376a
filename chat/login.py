"""Signing in and out: a page of its own, which needs no script, and what its forms and the provider lead to."""

from html import escape
from typing import cast

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from chat.accounts import folded
from chat.attempts import Attempts
from chat.database import DatabaseUnavailable
from chat.file_route import missing
from chat.hugging_face import HuggingFace, HuggingFaceError
from chat.identify import LOCAL, Ways, session_of
from chat.identity import Owner, new_token, set_cookie, token_of, visitor
from chat.login_page import login_page
from chat.services import Services
from chat.sessions import Session

WRONG = "This name and password don't belong together."
STATE_COOKIE = "parley_login"
STATE_SECONDS = 600


class Login:
    """The routes for signing in, for the ways that there are.

    Args:
        title: The name of the chat.
        ways: How people can sign in.
        hugging_face: The provider, where people can sign in with it.
    """

    def __init__(self, title: str, ways: Ways, hugging_face: HuggingFace | None) -> None:
        self._title = title
        self._ways = ways
        self._hugging_face = hugging_face
        self._attempts = Attempts()
        self.routes = [Route("/parley/account", self.account)]
        if ways.accounts is not None or hugging_face is not None:
            self.routes += [
                Route("/login", self.page, methods=["GET"]),
                Route("/logout", self.leave, methods=["POST"]),
            ]
        # Also where nobody signs in with a password: Gradio has a route of its own there.
        check = _missing if ways.accounts is None else self.check
        self.routes.append(Route("/login", check, methods=["POST"]))
        if hugging_face is not None:
            self.routes.append(Route("/login/huggingface", self.ask_hugging_face, methods=["GET"]))
            self.routes.append(Route("/login/callback", self.asked_hugging_face, methods=["GET"]))

    async def account(self, request: Request) -> Response:
        """Who has signed in, for the page: `name`, or `null`."""
        session = session_of(request)
        return JSONResponse({"name": (session and session.name) or None}, headers={"cache-control": "no-store"})

    async def page(self, request: Request) -> Response:
        """The login page; the chat for whoever has signed in."""
        session = session_of(request)
        if session is not None and session.owner != LOCAL:
            return _to(request, "/")
        return await self._page(request)

    async def check(self, request: Request) -> Response:
        """Sign in with a name and a password."""
        accounts = self._ways.accounts
        async with request.form() as sent:
            form = {name: value for name, value in sent.items() if not isinstance(value, UploadFile)}
        name, address = folded(form.get("name", "")), request.client.host if request.client else ""
        wait = self._attempts.wait(name, address)
        if wait:
            return await self._page(request, _too_many(wait), name, 429)
        self._attempts.fail(name, address)  # Before the password is looked at: many may be tried at once.
        proof = accounts and await accounts.check(name, form.get("password", ""))
        if not proof:
            return await self._page(request, WRONG, name, 403)
        self._attempts.succeed(name, address)
        return await self._enter(request, Owner(f"user:{name}"), name, proof, claim="claim" in form)

    async def ask_hugging_face(self, request: Request) -> Response:
        """Lead the browser to Hugging Face, which asks whether this chat may know who it is."""
        provider = self._provider()
        if request.url.hostname != provider.host:  # The answer comes to this one, and has to find its cookie there.
            return RedirectResponse(f"https://{provider.host}/login/huggingface?{request.url.query}", 303)
        try:
            asking = await provider.ask(claim="claim" in request.query_params)
        except HuggingFaceError as error:
            return await self._page(request, str(error), status=502)
        response = RedirectResponse(asking.url, 303)
        response.set_cookie(
            STATE_COOKIE, asking.state, max_age=STATE_SECONDS, path="/login", httponly=True, secure=True, samesite="lax"
        )
        return response

    async def asked_hugging_face(self, request: Request) -> Response:
        """Let in whom Hugging Face names, if this browser is the one that was sent there."""
        query = request.query_params
        try:
            known = await self._provider().answer(
                state=query.get("state", ""), code=query.get("code", ""), asked=request.cookies.get(STATE_COOKIE, "")
            )
        except HuggingFaceError as error:
            return await self._page(request, str(error), status=403)
        response = await self._enter(request, Owner(f"hf:{known.sub}"), known.name, claim=known.claim)
        response.delete_cookie(STATE_COOKIE, path="/login", httponly=True, secure=True, samesite="lax")
        return response

    async def leave(self, request: Request) -> Response:
        """Sign out: the browser is a new visitor."""
        token = token_of(request)
        try:
            if token is not None:
                await _services(request).sessions.end(token)
        except DatabaseUnavailable as error:
            return await self._page(request, f"You are still signed in. {error}", status=503)
        response = _to(request, "/")
        response.headers.append("set-cookie", set_cookie(request.scope, new_token()))
        response.headers["clear-site-data"] = '"storage"'
        return response

    async def _enter(self, request: Request, owner: Owner, name: str, proof: str = "", *, claim: bool) -> Response:
        sessions, token = _services(request).sessions, token_of(request)
        claimed = await self._claimable(request) if claim else None
        try:
            given = await sessions.start(owner, name, proof, claimed=claimed)
            if token is not None:
                await sessions.end(token)
        except DatabaseUnavailable as error:
            return await self._page(request, f"You can't be let in now. {error}", name, 503)
        response = _to(request, "/")
        response.headers.append("set-cookie", set_cookie(request.scope, given))
        return response

    async def _claimable(self, request: Request) -> Owner | None:
        """Who this browser is without signing in, if that one has written anything."""
        sessions, token = _services(request).sessions, token_of(request)
        session: Session | None = None if token is None else await sessions.find(token)
        if token is None or (session is not None and session.owner != LOCAL):
            return None
        owner = visitor(token) if session is None else session.owner
        return owner if await sessions.has_written(owner) else None

    async def _page(self, request: Request, sentence: str = "", name: str = "", status: int = 200) -> HTMLResponse:
        page = login_page(
            title=escape(self._title),
            root=escape(request.scope.get("root_path", "")),
            sentence=escape(sentence),
            name=escape(name),
            claimable=await self._claimable(request) is not None,
            accounts=self._ways.accounts is not None,
        )
        form = f"form-action 'self' {self._hugging_face.provider if self._hugging_face else ''}".strip()
        headers = {
            "cache-control": "no-store",
            "content-security-policy": f"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; {form}; "
            "frame-ancestors 'none'",
        }
        return HTMLResponse(page, status, headers)

    def _provider(self) -> HuggingFace:
        return cast("HuggingFace", self._hugging_face)


async def _missing(request: Request) -> Response:
    return missing()


def _services(request: Request) -> Services:
    return request.state.services


def _to(request: Request, path: str) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}", 303, {"cache-control": "no-store"})


def _too_many(wait: float) -> str:
    minutes = int(wait // 60) + 1
    return f"Too many attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
