"""A model provider of the tests' own: it speaks the OpenAI chat-completions protocol, and misbehaves on demand.

The last prompt says what it does: one of `FAULTS`, `words 30`, `steady` (never ends), `call add {"a": 1, "b": 2}`
(a tool call, and once it has its result, a sentence about it), `echo ...`. Anything else is answered in a few words.
Like the real one it refuses a history that is not valid.

Of the responses protocol it speaks as much as generating an image takes: that is its answer to anything there.
"""

import base64
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any
from uuid import uuid4

KEY = "sk-the-tests-own-secret"
"""The only key that it accepts."""

HERE = "Some words "
"""What it has written when a fault comes in mid-stream."""

WORD_SECONDS = 0.01

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAIAAAACUFjqAAAAEklEQVR4nGP4z8CAB+GTG8HSALfKY52fTcuYAAAAAElFTkSuQmCC"
)
"""The image that it generates."""

SECRET = "internal details at 10.0.0.7"  # noqa: S105  # Stands for what a visitor must not read.


def words(count: int) -> str:
    """What `words <count>` is answered with."""
    return "".join(f"word{number} " for number in range(1, count + 1))


@dataclass
class Exchange:
    """A request, and whether the client closed its connection before it had the whole answer."""

    path: str
    body: dict[str, Any]
    left: threading.Event = field(default_factory=threading.Event)

    @property
    def prompt(self) -> str:
        """The text of the last prompt."""
        content = [message["content"] for message in self.body["messages"] if message["role"] == "user"][-1]
        return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class Provider:
    """The server. `exchanges` has all that it was asked, oldest first; `asked` gives them one by one, to await."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.asked: Queue[Exchange] = Queue()
        handler = type("Handler", (_Handler,), {"provider": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def answered(self, prompt: str) -> Exchange:
        """The newest request with this prompt."""
        return next(exchange for exchange in reversed(self.exchanges) if exchange.prompt == prompt)


@contextmanager
def running_provider() -> Iterator[Provider]:
    """A provider that serves until the end of the block."""
    provider = Provider()
    server = provider._server
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Gone(Exception):
    """The client has closed the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: Provider
    exchange: Exchange

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # The base class names it.
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        exchange = Exchange(self.path, body)
        self.provider.exchanges.append(exchange)
        self.provider.asked.put(exchange)
        self.close_connection = True
        try:
            self._answer(exchange)
        except (_Gone, BrokenPipeError, ConnectionResetError):
            exchange.left.set()

    def _answer(self, exchange: Exchange) -> None:
        if self.headers["authorization"] != f"Bearer {KEY}":
            self.refuse(401, "invalid_api_key", f"Incorrect API key: {SECRET}")
        elif exchange.path == "/v1/responses":
            self.paint()
        elif problem := invalid(exchange.body["messages"]):
            self.refuse(400, "invalid_request_error", problem)
        else:
            command, _, rest = exchange.prompt.partition(" ")
            self.exchange = exchange
            FAULTS.get(exchange.prompt, _COMMANDS.get(command, _talk))(self, rest)

    def paint(self) -> None:
        """Generate `PICTURE`, and say so."""
        drawn = {"type": "image_generation_call", "id": "ig-1", "status": "completed", "output_format": "png"}
        drawn["result"] = base64.b64encode(PICTURE).decode()
        words = {"type": "output_text", "text": "There it is.", "annotations": []}
        said = {"type": "message", "id": "m-1", "role": "assistant", "status": "completed", "content": [words]}
        response = {"id": "r-1", "object": "response", "created_at": 1_700_000_000, "model": "test", "output": []}
        response |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        usage = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        at = {"item_id": "m-1", "output_index": 1, "content_index": 0}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": response | {"status": "in_progress"}},
            {"type": "response.output_item.added", "output_index": 0, "item": drawn | {"result": None}},
            {"type": "response.output_item.done", "output_index": 0, "item": drawn},
            {"type": "response.output_item.added", "output_index": 1, "item": said | {"content": []}},
            {"type": "response.output_text.delta", **at, "delta": "There it is.", "logprobs": []},
            {"type": "response.output_item.done", "output_index": 1, "item": said},
            {"type": "response.completed", "response": response | {"status": "completed", "usage": usage}},
        ]
        self.begin()
        for number, event in enumerate(events):
            self.event({**event, "sequence_number": number})
        self.wfile.write(b"0\r\n\r\n")

    def refuse(self, status: int, code: str, message: str = SECRET, **headers: str) -> None:
        body = json.dumps({"error": {"message": message, "type": code, "param": None, "code": code}}).encode()
        self.send_response(status)
        for name, value in {
            "content-type": "application/json",
            "content-length": str(len(body)),
            # The client would ask three times, with pauses.
            "x-should-retry": "false",
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        self.event({**_CHUNK, "choices": [choice]})

    def event(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        line = f"data: {text}\n\n".encode()
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def end(self, finish_reason: str = "stop") -> None:
        self.chunk({}, finish_reason)
        self.event({**_CHUNK, "choices": [], "usage": _USAGE})
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def text(self, words: Sequence[str], pause: float = 0) -> None:
        for word in words:
            self.wait(pause)
            self.chunk({"content": word})

    def wait(self, seconds: float | None) -> None:
        """Let time pass, or for ever with `None`, unless the client goes."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable and not self.connection.recv(1):
            raise _Gone

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())


_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "test"}
_USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}

_Behaviour = Callable[[_Handler, str], None]


def _talk(handler: _Handler, rest: str) -> None:
    handler.begin()
    handler.text(["Well, ", "then."])
    handler.end()


def _echo(handler: _Handler, rest: str) -> None:
    handler.begin()
    handler.text(rest.splitlines(keepends=True))
    handler.end()


def _words(handler: _Handler, rest: str) -> None:
    handler.begin()
    handler.text([f"{word} " for word in words(int(rest)).split()], WORD_SECONDS)
    handler.end()


def _steady(handler: _Handler, rest: str) -> None:
    handler.begin()
    number = 0
    while True:
        number += 1
        handler.text([f"word{number} "], WORD_SECONDS)


def _call(handler: _Handler, rest: str) -> None:
    result = handler.exchange.body["messages"][-1]
    handler.begin()
    if result["role"] == "tool":
        handler.text(["The tool said: ", result["content"]])
        handler.end()
        return
    name, _, arguments = rest.partition(" ")
    handler.text([HERE])
    function = {"name": name, "arguments": ""}
    handler.chunk({"tool_calls": [{"index": 0, "id": f"call-{uuid4()}", "type": "function", "function": function}]})
    for piece in (arguments[:3], arguments[3:]):
        handler.chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    handler.end("tool_calls")


def _hang(handler: _Handler, rest: str) -> None:
    handler.wait(None)


def _stall(handler: _Handler, rest: str) -> None:
    handler.begin()
    handler.text([HERE])
    handler.wait(None)


def _reset(handler: _Handler, rest: str) -> None:
    handler.begin()
    handler.text([HERE])
    handler.reset()


def _filtered(handler: _Handler, rest: str) -> None:
    handler.begin()
    handler.text([HERE])
    handler.end("content_filter")


def _malformed(handler: _Handler, rest: str) -> None:
    handler.begin()
    handler.text([HERE])
    handler.event('{"id": "chatcmpl-1", "choices": [{"index":')
    handler.wait(None)


FAULTS: dict[str, _Behaviour] = {
    "unauthorized": lambda handler, _: handler.refuse(401, "invalid_api_key"),
    "no such model": lambda handler, _: handler.refuse(404, "model_not_found"),
    "rate limited": lambda handler, _: handler.refuse(429, "rate_limit_exceeded", **{"retry-after": "7"}),
    "server error": lambda handler, _: handler.refuse(500, "server_error"),
    "too long": lambda handler, _: handler.refuse(400, "context_length_exceeded"),
    "hang": _hang,
    "stall": _stall,
    "reset": _reset,
    "filtered": _filtered,
    "malformed": _malformed,
}
"""The prompts that make it fail. Of `stall` and the ones after it, the visitor sees `HERE` first."""

_COMMANDS: dict[str, _Behaviour] = {"words": _words, "steady": _steady, "call": _call, "echo": _echo}


def invalid(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """Why the provider can't take a history, by the rules that OpenAI enforces."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return "A tool's message must follow the call that it answers."
            waiting.discard(message["tool_call_id"])
            continue
        if waiting:
            return f"The tool calls {sorted(waiting)} are not answered."
        calls = message.get("tool_calls") or []
        waiting = {call["id"] for call in calls}
        for call in calls:
            try:
                json.loads(call["function"]["arguments"])
            except ValueError:
                return "The arguments of a tool call are no JSON."
        if not message.get("content") and not calls:
            return f"A message of the {message['role']} is empty."
    if waiting:
        return f"The tool calls {sorted(waiting)} are not answered."
    if messages[-1]["role"] not in ("user", "tool"):
        return "There is nothing to answer."
    return None
