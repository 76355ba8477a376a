"""Signing in with Hugging Face, on Spaces: OAuth with PKCE, by the account's stable id.

Gradio's own login button keeps the account in a cookie signed with a key made of the client's secret, and off Spaces
lets everybody in as whoever runs the program. Here the browser keeps only which question it was sent with.
"""

import base64
import hashlib
import hmac
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

from httpx import AsyncClient, HTTPError, Response

ASKED_SECONDS = 600
"""How long the provider may take to answer: people read what they are asked."""

ASKED_AT_ONCE = 10_000
"""Questions that are kept, the oldest forgotten first."""

PATIENCE_SECONDS = 10
"""How long the provider is waited for."""


class HuggingFaceError(Exception):
    """Why somebody can't sign in; one sentence that says what to do."""


@dataclass(frozen=True)
class Asking:
    """Where a browser is sent, and what it has to come back with."""

    url: str
    state: str


@dataclass(frozen=True)
class Known:
    """Whom the provider named: the account's stable id, what it is called, and whether it claims what was written."""

    sub: str
    name: str
    claim: bool


@dataclass(frozen=True)
class _Question:
    verifier: str
    claim: bool
    until: float


class HuggingFace:
    """The provider, as a Space's variables name it.

    Args:
        provider: Its address.
        host: The Space's, to which the browser comes back.
        client_id: What the provider knows the Space by.
        client_secret: And what the Space shows for it.
        scopes: What the Space asks to know.
    """

    def __init__(self, provider: str, host: str, client_id: str, client_secret: str, scopes: str) -> None:
        self.provider = provider.rstrip("/")
        self.host = host
        self._client = {"client_id": client_id, "client_secret": client_secret}
        self._scopes = scopes
        self._back = f"https://{host}/login/callback"
        self._asked: OrderedDict[str, _Question] = OrderedDict()

    @classmethod
    def from_space(cls, variables: Mapping[str, str] = os.environ) -> "HuggingFace | None":
        """The provider, where this runs in a Space whose README says `hf_oauth: true`."""
        names = ("OPENID_PROVIDER_URL", "SPACE_HOST", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES")
        provider, host, *client = (variables.get(name, "") for name in names)
        if variables.get("SYSTEM") != "spaces" or not all((provider, host, *client)):
            return None
        return cls(provider, host.split(",")[0].strip(), *client)

    async def ask(self, *, claim: bool) -> Asking:
        """The question with which a browser is sent to the provider."""
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        self._asked[_hash(state)] = _Question(verifier, claim, time.monotonic() + ASKED_SECONDS)
        while len(self._asked) > ASKED_AT_ONCE:
            self._asked.popitem(last=False)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        question = {
            "client_id": self._client["client_id"],
            "redirect_uri": self._back,
            "response_type": "code",
            "scope": self._scopes,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return Asking(f"{self.provider}/oauth/authorize?{urlencode(question)}", state)

    async def answer(self, *, state: str, code: str, asked: str) -> Known:
        """Whom the provider names, in answer to a question of ours that this browser was sent with.

        Args:
            state: What came back beside the code.
            code: What the provider is asked with; once.
            asked: The state that the browser was given when it was sent.

        Raises:
            HuggingFaceError: If it was not, took too long, or the provider names nobody.
        """
        # Somebody else's answer would let this browser in as somebody else.
        same = hmac.compare_digest(state.encode(), asked.encode())
        question = self._asked.pop(_hash(state), None) if same and state else None
        if question is None or question.until < time.monotonic() or not code:
            raise HuggingFaceError("Hugging Face did not let you in, or it took too long. Try again.")
        try:
            async with AsyncClient(timeout=PATIENCE_SECONDS) as client:
                told = await client.post(
                    f"{self.provider}/oauth/token",
                    data={
                        "grant_type": "authorization_code",
                        "code": code,
                        "redirect_uri": self._back,
                        "code_verifier": question.verifier,
                        **self._client,
                    },
                )
                token = _field(told, "access_token")
                account = await client.get(
                    f"{self.provider}/oauth/userinfo", headers={"authorization": f"Bearer {token}"}
                )
        except HTTPError as error:
            raise HuggingFaceError("Hugging Face can't be reached at the moment. Try again in a minute.") from error
        sub = _field(account, "sub")
        return Known(sub, str(account.json().get("preferred_username") or "Hugging Face user"), question.claim)


def _field(answer: Response, name: str) -> str:
    try:
        told: Any = answer.json() if answer.is_success else None
    except ValueError:
        told = None
    value = cast("dict[str, object]", told).get(name) if isinstance(told, dict) else None
    if not isinstance(value, str) or not value:
        raise HuggingFaceError("Hugging Face did not say who you are. Try again.")
    return value


def _hash(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()
