"""A visitor without a browser, who speaks the protocol of Gradio's queue as a page does."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Self
from uuid import uuid4

import httpx
from gradio_client.utils import apply_diff

Status = dict[str, Any]
Messages = list[dict[str, Any]]


class Visitor:
    """Keeps its cookie, so that it is the same visitor to a server that was started again."""

    def __init__(self, url: str, host: str | None = None) -> None:
        headers = {"host": host} if host else None
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=30, limits=httpx.Limits(max_connections=None)
        )
        self._functions: dict[str, int] = {}
        self.received: list[int] = []
        """Bytes of each update that events of the page have painted."""

    async def __aenter__(self) -> Self:
        await self._http.get("/")
        config = (await self._http.get("/config")).json()
        self._functions = {function["api_name"]: function["id"] for function in config["dependencies"]}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(self, name: str, *data: Any) -> AsyncGenerator[tuple[Messages, Status], None]:
        """What an event of the page paints, frame by frame."""
        session = uuid4().hex
        body = {"data": data, "fn_index": self._functions[name], "session_hash": session, "event_data": None}
        await self._send("/gradio_api/queue/join", body)
        frame: list[Any] = []
        address = f"/gradio_api/queue/data?session_hash={session}"
        async with self._http.stream("GET", address, timeout=None) as response:
            async for line in _lines(response):
                message = json.loads(line.removeprefix("data:")) if line else {"msg": "nothing"}
                if message["msg"] == "process_generating":
                    self.received.append(len(line.encode()))
                    changes = message["output"]["data"]
                    # The first frame is whole, the others say what changed.
                    frame = (
                        [apply_diff(old, new) for old, new in zip(frame, changes, strict=True)] if frame else changes
                    )
                    yield frame[1], frame[0]
                elif message["msg"] == "process_completed":
                    assert message["success"], message
                    return

    async def post(self, name: str, *data: Any) -> None:
        """Call an event that does not wait in the queue."""
        body = {"data": data, "fn_index": self._functions[name], "session_hash": uuid4().hex, "event_data": None}
        await self._send("/gradio_api/run/predict", body)

    async def _send(self, path: str, body: dict[str, Any]) -> None:
        # As browsers write it: half a surrogate pair is a text, too.
        headers = {"content-type": "application/json"}
        (await self._http.post(path, content=json.dumps(body), headers=headers)).raise_for_status()

    async def get(self, address: str) -> bytes:
        """A file that a page shows."""
        return (await self._http.get(address)).raise_for_status().content

    async def last(self, name: str, *data: Any) -> tuple[Messages, Status]:
        """What an event of the page paints at last."""
        frames: tuple[Messages, Status] | None = None
        async with aclosing(self.call(name, *data)) as painted:
            async for frame in painted:
                frames = frame
        assert frames is not None
        return frames


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Lines as a browser takes them: httpx's end also where a text has a NEL or a separator of paragraphs."""
    rest = ""
    async for text in response.aiter_text():
        *whole, rest = (rest + text).split("\n")
        for line in whole:
            yield line


def shown(messages: Sequence[dict[str, Any]]) -> list[str]:
    """The text of each message."""
    return ["".join(item["text"] for item in message["content"]) for message in messages]
