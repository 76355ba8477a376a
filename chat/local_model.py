"""The embedded default model: llama.cpp in this process, reached as an ordinary Pydantic AI model.

`check_library` says whether llama.cpp can run here, `LocalModel` serves the weights that `chat.weights` fetched.
llama.cpp's own OpenAI-compatible server listens on a loopback port that only this process has the key to, so streaming,
usage, tool calls and cancellation are those of `OpenAIChatModel`. `LocalModel` adds what a hosted model does on its
side: it waits for the weights to load, keeps a conversation within the context, and lets in no more requests than the
shared context has room for.
"""

import asyncio
import importlib
import importlib.util
import json
import os
import platform
import re
import secrets
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from socket import SHUT_RDWR, socket
from typing import TYPE_CHECKING, Any, cast

import httpx2
from pydantic_ai import RunContext
from pydantic_ai.messages import (
    BinaryContent,
    CachePoint,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from chat.weights import OTHER_MODEL, SMALL_MODEL, LocalModelError, Weights, one_line

if TYPE_CHECKING:
    from pydantic_ai.profiles.openai import OpenAIModelProfile

CPU_FEATURES = {"avx2", "bmi2", "f16c", "fma"}
"""What `xllamacpp.get_system_info()` says the x86 wheels are compiled for; a CPU without them dies of SIGILL."""
CONTEXT_TOKENS = 8192
"""Tokens llama.cpp keeps for all requests together, and the most that one request may use."""
MARGIN_TOKENS = 64
"""For what the count of a request leaves out, such as the marks around a reply."""
SHORTEST_ANSWER_TOKENS = 256
"""Less room than this for the answer, and a prompt counts as too long."""
MESSAGE_BYTES = 16
"""A chat template's marks around one message, counted as if they were text."""


def check_library() -> None:
    """Raise `LocalModelError` when llama.cpp cannot run on this machine. Imports it: 30 ms, 70 ms from a cold disk."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise LocalModelError(f"The embedded model needs a package: run `pip install xllamacpp`, or {OTHER_MODEL}.")
    if not _cpu_supported():
        raise LocalModelError(f"The embedded model needs a CPU with AVX2, which this machine lacks: {OTHER_MODEL}.")
    try:
        _xllamacpp()
    except ImportError as error:
        raise LocalModelError(_import_remedy(error)) from error


def _xllamacpp() -> Any:
    # Read when the library is loaded: OpenMP threads that spin while they wait starve each other on busy cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # By name and in a function: the module has no types, and chats with another model never load it.
    return importlib.import_module("xllamacpp")


def _import_remedy(error: ImportError) -> str:
    if "libgomp" in str(error):
        return (
            "The embedded model needs the system's libgomp.so.1: install it with `apt-get install libgomp1` or "
            f"`dnf install libgomp`, or {OTHER_MODEL}."
        )
    return f"llama.cpp does not load on this machine ({error}): {OTHER_MODEL}."


def _cpu_supported() -> bool:
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return True
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True  # Not Linux; such x86 machines without AVX2 are too old for the Python we require.
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is None or set(flags[1].split()) >= CPU_FEATURES


def _exchange(question: str, answer: str) -> list[ModelMessage]:
    return [ModelRequest([UserPromptPart(question)]), ModelResponse([TextPart(answer)])]


@dataclass(frozen=True)
class _Manner:
    """How a family of models wants to be asked."""

    settings: ModelSettings
    body: dict[str, object] = field(default_factory=dict[str, object])
    """llama.cpp's own request fields."""
    tools: bool = True
    thinks: bool = False
    examples: Sequence[ModelMessage] = ()
    """Questions and answers placed before every conversation."""


_SMOL = _Manner(
    # As measured: with a temperature or a repeat penalty it answers worse. The examples matter as much, and what they
    # are about: these get 15 of 16 simple facts right, some others 12, because it repeats their subjects.
    ModelSettings(max_tokens=768, temperature=0.0),
    {"dry_multiplier": 0.8, "dry_allowed_length": 3},
    tools=False,
    examples=[
        *_exchange("What is the capital of Portugal?", "The capital of Portugal is Lisbon."),
        *_exchange("How many legs does a spider have?", "A spider has eight legs."),
        *_exchange("How many minutes are in an hour?", "There are 60 minutes in an hour."),
    ],
)
# Sampling as its model card recommends for thinking.
_QWEN3 = _Manner(ModelSettings(max_tokens=1536, temperature=0.6, top_p=0.95), {"top_k": 20, "min_p": 0.0}, thinks=True)
_OTHER = _Manner(ModelSettings(max_tokens=1536))


def _manner(name: str) -> _Manner:
    if name.startswith(SMALL_MODEL):
        return _SMOL
    return _QWEN3 if name.startswith("Qwen3") else _OTHER


def _profile(manner: _Manner) -> "OpenAIModelProfile":
    from pydantic_ai.profiles.openai import OpenAIModelProfile

    return OpenAIModelProfile(
        context_window=CONTEXT_TOKENS,
        supports_tools=manner.tools,
        # llama.cpp holds the output to a schema by a grammar, so even a model without tools can fill one.
        default_structured_output_mode="tool" if manner.tools else "native",
        native_output_requires_schema_in_instructions=not manner.tools,
        supports_image_input=False,
        supports_document_input=False,
        supports_audio_file_input=False,
        supports_thinking=manner.thinks,
        thinking_enabled_by_default=manner.thinks,
        openai_chat_thinking_false_body={"chat_template_kwargs": {"enable_thinking": False}},
        openai_chat_send_back_thinking_parts="auto" if manner.thinks else False,
        openai_chat_supports_max_completion_tokens=False,
        # Chat templates accept a system message in the first place only.
        openai_chat_supports_multiple_system_messages=False,
        openai_supports_strict_tool_definition=False,
    )


def _turns(messages: Iterable[ModelMessage]) -> list[list[ModelMessage]]:
    """The messages by turn: each starts with what a person wrote and holds everything up to the next."""
    turns: list[list[ModelMessage]] = []
    for message in messages:
        if not turns or _starts_turn(message):
            turns.append([])
        turns[-1].append(message)
    return turns


def _starts_turn(message: ModelMessage) -> bool:
    # A prompt beside a tool's result belongs to the turn that called the tool.
    return (
        isinstance(message, ModelRequest)
        and any(isinstance(part, UserPromptPart) for part in message.parts)
        and not any(_is_tool_result(part) for part in message.parts)
    )


def _first_kept(sizes: Sequence[int], limit: int) -> int:
    """The index of the first turn to keep so that the rest fits `limit`; the last turn is always kept.

    Drops in steps of half the limit instead of turn by turn: between two steps a conversation keeps its beginning, and
    with it llama.cpp's prompt cache, so that a long conversation is not read anew at every turn.
    """
    excess = sum(sizes) - limit
    if excess <= 0:
        return 0
    step = max(limit // 2, 1)
    drop = -(-excess // step) * step
    starts = accumulate(sizes[:-1], initial=0)
    return next((index for index, start in enumerate(starts) if start >= drop), len(sizes) - 1)


def _byte_count(text: str) -> int:
    return len(text.encode(errors="replace"))


def _text(message: ModelMessage) -> str:
    return "\n".join(_part_text(part) for part in message.parts)


def _part_text(part: ModelRequestPart | ModelResponsePart) -> str:
    match part:
        case UserPromptPart():
            return part.content if isinstance(part.content, str) else "\n".join(map(_item_text, part.content))
        case ToolCallPart():
            return f"{part.tool_name} {part.args_as_json_str()}"
        case ToolReturnPart():
            return part.model_response_str()
        case _:
            # What is sent of a request to try again is longer than what is stored of it.
            sent: object = getattr(part, "model_response", None)
            content: object = sent() if callable(sent) else getattr(part, "content", "")
            return content if isinstance(content, str) else ""


def _item_text(item: UserContent) -> str:
    """A piece of a prompt as text: what the model cannot take is named instead, and never fails the conversation."""
    match item:
        case str():
            return item
        case TextContent():
            return item.content
        case BinaryContent() if item.media_type.startswith("text/"):
            return item.data.decode(errors="replace")
        case CachePoint():
            return ""
        case _:
            return f"[A file of type {getattr(item, 'kind', 'unknown')} is attached here; this model reads text only.]"


def _readable(messages: Iterable[ModelMessage], *, tools: bool) -> list[ModelMessage]:
    """The messages as text, and without `tools` as if there had never been any: what only spoke to them disappears."""
    kept: list[ModelMessage] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            asked = [_as_text(part) for part in message.parts if tools or not _is_tool_result(part)]
            kept += [replace(message, parts=asked)] if asked or tools else []
        else:
            said = [part for part in message.parts if tools or isinstance(part, TextPart)]
            kept += [replace(message, parts=said)] if said or tools else []
    return kept


def _as_text(part: ModelRequestPart) -> ModelRequestPart:
    return replace(part, content=_part_text(part)) if isinstance(part, UserPromptPart) else part


def _is_tool_result(part: ModelRequestPart) -> bool:
    # By kind: the class of a request to try again is deprecated, yet stored conversations hold it.
    return part.part_kind == "tool-return" or (part.part_kind == "retry-prompt" and part.tool_name is not None)


def _system_parts(messages: Iterable[ModelMessage]) -> list[ModelRequestPart]:
    requests = [message for message in messages if isinstance(message, ModelRequest)]
    return [part for request in requests for part in request.parts if isinstance(part, SystemPromptPart)]


def _instructions(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> str:
    if parameters.instruction_parts:
        return "\n\n".join(part.content for part in parameters.instruction_parts)
    newest = next((message for message in reversed(messages) if isinstance(message, ModelRequest)), None)
    return (newest and newest.instructions) or ""


def _tool_bodies(parameters: ModelRequestParameters) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description or "",
                "parameters": tool.parameters_json_schema,
            },
        }
        for tool in [*parameters.function_tools, *parameters.output_tools]
    ]


class _Room:
    """Tokens of the shared context: llama.cpp fails every running request when they outgrow it together."""

    def __init__(self, tokens: int) -> None:
        self._free = tokens
        self._line: deque[asyncio.Event] = deque()

    @asynccontextmanager
    async def hold(self, tokens: int) -> AsyncGenerator[None]:
        """Wait, in the order of asking, until `tokens` are free; give them back at the end."""
        place = asyncio.Event()
        self._line.append(place)
        try:
            while self._line[0] is not place or self._free < tokens:
                place.clear()
                await place.wait()
            self._free -= tokens
        finally:
            self._line.remove(place)
            self._call_first()
        try:
            yield
        finally:
            self._free += tokens
            self._call_first()

    def _call_first(self) -> None:
        if self._line:
            self._line[0].set()


class _Engine:
    """llama.cpp's server, loaded once, and the connections that hold it up when it should stop."""

    def __init__(self, weights: Weights) -> None:
        self.key = secrets.token_urlsafe(32)
        self.http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self.key}"},
            # The environment's proxies are for the world outside, not for a loopback port.
            trust_env=False,
            # llama.cpp notices a cancelled request by its closed connection.
            limits=httpx2.Limits(max_keepalive_connections=0),
            timeout=httpx2.Timeout(None, connect=10),
            event_hooks={"request": [self._watch]},
        )
        self._weights = weights
        # Constructing llama.cpp's server loads the weights, dropping it stops it.
        self._server: Any = None
        self._loading: Future[int] | None = None
        self._sockets: list[socket] = []
        self._closed = False
        self._lock = threading.Lock()

    def start(self) -> Future[int]:
        """Begin loading, unless it began before. The result is how many tokens one request may use."""
        with self._lock:
            if self._closed:
                raise LocalModelError(f"{self._weights.name} is stopped: start the chat again.")
            if self._loading is None:
                # In an executor, not a daemon thread: the interpreter must not vanish under C++ code that still loads.
                loader = ThreadPoolExecutor(1, "parley-local-model")
                self._loading = loader.submit(self._load)
                loader.shutdown(wait=False)
            return self._loading

    def close(self) -> None:
        with self._lock:
            self._closed = True
        if self._loading is not None:
            wait([self._loading])
        # llama.cpp stops only after its last answer, so those still being written are cut off.
        for connection in self._sockets:
            with suppress(OSError):
                _cut(connection)
        self._sockets.clear()
        self._server = None

    async def _watch(self, request: httpx2.Request) -> None:
        own: list[socket] = []

        async def trace(event: str, info: dict[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                own.append(info["return_value"].get_extra_info("socket"))
                self._sockets.extend(own)
            elif event == "http11.response_closed.started":
                # Before it is closed: its number may be another connection's then.
                self._sockets = [connection for connection in self._sockets if connection not in own]

        request.extensions = {**request.extensions, "trace": trace}

    def _load(self) -> int:
        check_library()
        try:
            self._server = _serve(self._weights, self.key)
            self.http.base_url = self._server.listening_address
            # A client of its own, since this runs outside any event loop.
            props = httpx2.get(
                f"{self._server.listening_address}/props", headers=self.http.headers, trust_env=False, timeout=10
            )
            # Fewer than `CONTEXT_TOKENS` for weights trained on less.
            return min(int(props.json()["default_generation_settings"]["n_ctx"]), CONTEXT_TOKENS)
        except Exception as error:  # llama.cpp reports whatever goes wrong as a plain RuntimeError.
            raise LocalModelError(
                f"{self._weights.name} could not be loaded ({one_line(error)}): the file is damaged, of a kind "
                f"llama.cpp does not know, or too large for this machine's memory, so name other weights, or "
                f"{OTHER_MODEL}."
            ) from error


def _cut(connection: socket) -> None:
    """End a connection of the event loop's own at once."""
    try:
        connection.shutdown(SHUT_RDWR)
    except TypeError:  # uvloop only names its sockets.
        with socket(fileno=os.dup(connection.fileno())) as named:
            named.shutdown(SHUT_RDWR)


def _serve(weights: Weights, key: str) -> Any:
    library = _xllamacpp()
    params = library.CommonParams()
    params.model.path = str(weights.path)
    # Otherwise the file's path is what the model is called.
    params.model_alias = {weights.name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.ui = False
    params.verbosity = -1
    params.n_ctx = CONTEXT_TOKENS
    params.kv_unified = True
    params.n_parallel = 4
    params.cache_ram_mib = 256
    # Between two batches a request can be cancelled; each takes about half a second on two cores.
    params.n_batch = 128
    # Loading holds the interpreter's lock, so it must be short: these two more than double it. Fitting the sizes to
    # the memory loads the weights twice, and warming up reads all of them.
    params.fit_params = False
    params.warmup = False
    if (cores := _granted_cores()) is not None:
        params.cpuparams.n_threads = cores
        params.cpuparams_batch.n_threads = cores
    return library.Server(params)


def _granted_cores() -> int | None:
    """How many cores a container grants, when fewer than llama.cpp would count and fight over."""
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        granted = max(1, round(int(quota) / int(period)))
        return granted if granted < (os.cpu_count() or 1) else None
    return None


class LocalModel(WrapperModel):
    """A model in this process. The first request loads it, unless `start` did so before.

    Requests raise `LocalModelError` when the weights cannot be loaded, when a prompt alone is too long, and after
    `close`. What is dropped, it stops by itself: at the latest when the interpreter ends.
    """

    def __init__(self, weights: Weights) -> None:
        # Imported here: it takes a second, and chats with another provider never need it.
        from openai import AsyncOpenAI
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

        self.weights = weights
        self._manner = _manner(weights.name)
        self._engine = _Engine(weights)
        self._room = _Room(CONTEXT_TOKENS)
        # The address is set when the server has one. Asking a second time would only double the load.
        self._client = AsyncOpenAI(
            base_url="http://127.0.0.1:9/v1", api_key=self._engine.key, http_client=self._engine.http, max_retries=0
        )
        super().__init__(
            OpenAIChatModel(
                weights.name,
                provider=OpenAICompatibleProvider("local", openai_client=self._client),
                profile=_profile(self._manner),
                settings=self._manner.settings,
            )
        )
        self._finalizer = weakref.finalize(self, self._engine.close)

    def start(self) -> None:
        """Begin loading in a thread and return at once. Loading holds the interpreter's lock for most of its time."""
        self._engine.start()

    def close(self) -> None:
        """Cut off the answers being written, stop llama.cpp and free its memory, for good.

        Takes a tenth of a second, or until the current batch of a prompt is read: half a second on two cores.
        """
        self._finalizer()

    async def ready(self) -> int:
        """How many tokens one request may use, as soon as the model is loaded.

        Raises `LocalModelError` when it cannot be, or is closed.
        """
        # Shielded: the request that is cancelled may not be the only one that waits.
        context = await asyncio.shield(asyncio.wrap_future(self._engine.start()))
        self._client.base_url = self._engine.http.base_url.join("/v1")
        return context

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        # As a stream: a request for the whole answer at once goes on in llama.cpp when it is cancelled here.
        async with self.request_stream(messages, model_settings, model_request_parameters) as stream:
            async for _ in stream:
                pass
            return stream.get()

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        context = await self.ready()
        settings, parameters = self._asked(model_settings, model_request_parameters)
        fitted, prompt = await self._fit(messages, parameters, context)
        left = context - MARGIN_TOKENS - prompt
        if left < SHORTEST_ANSWER_TOKENS:
            raise self._too_long(prompt, context)
        answer = min(settings.get("max_tokens") or left, left)
        settings["max_tokens"] = answer
        async with (
            self._room.hold(prompt + MARGIN_TOKENS + answer),
            self.wrapped.request_stream(fitted, settings, parameters, run_context) as stream,
        ):
            yield stream

    def _asked(
        self, settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> tuple[ModelSettings, ModelRequestParameters]:
        asked = self._manner.settings | (settings or ModelSettings())
        if not self._manner.tools:
            parameters = replace(parameters, function_tools=[], native_tools=[])
            asked = cast("ModelSettings", {key: asked[key] for key in asked if "tool" not in key})
        given = cast("dict[str, object]", asked.get("extra_body") or {})
        # llama.cpp notices that nobody listens any more when it writes. While it reads a prompt, which can take most of
        # a minute, it writes nothing but these reports of its progress, one after each batch.
        asked["extra_body"] = {**self._manner.body, **given, "return_progress": True}
        return asked, parameters

    async def _fit(
        self, messages: Sequence[ModelMessage], parameters: ModelRequestParameters, context: int
    ) -> tuple[list[ModelMessage], int]:
        """The newest turns that fit, with the examples and system prompts before them, and their count of tokens.

        Old turns may fill half of the context: so two long conversations are answered at a time, and reading one again
        from its beginning takes seconds, not a minute. The newest turn may fill all of it.
        """
        turns = _turns(_readable(messages, tools=self._manner.tools))
        sizes = [sum(_byte_count(_text(message)) + MESSAGE_BYTES for message in turn) for turn in turns]
        limit = context // 2
        examples = "".join(map(_text, self._manner.examples))
        fixed = _byte_count(_instructions(messages, parameters) + examples + json.dumps(_tool_bodies(parameters)))
        fitted, tokens = list(messages), 0
        # Counting bytes is cheap at any length, so it chooses, and only the choice is tokenised. A token of English
        # holds four bytes, of code three, of other scripts two, and never less than one.
        for bytes_per_token in (3, 2, 1):
            first = _first_kept(sizes, limit * bytes_per_token - fixed)
            fitted = self._assembled(turns, first)
            tokens = await self._count(fitted, parameters)
            if tokens <= limit or first >= len(turns) - 1:
                break
        return fitted, tokens

    def _assembled(self, turns: Sequence[list[ModelMessage]], first: int) -> list[ModelMessage]:
        dropped = [message for turn in turns[:first] for message in turn]
        kept = [message for turn in turns[first:] for message in turn]
        # Dropping a turn must not drop what the application told the model in it. And the examples come after the
        # system prompt, which a template looks for in the first place.
        system = _system_parts([*dropped, *kept[:1]])
        if kept and isinstance(kept[0], ModelRequest):
            rest = [part for part in kept[0].parts if not isinstance(part, SystemPromptPart)]
            kept[0] = replace(kept[0], parts=rest)
        head: list[ModelMessage] = [ModelRequest(system)] if system else []
        return [*head, *self._manner.examples, *kept]

    async def _count(self, messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> int:
        roles = ["user" if isinstance(message, ModelRequest) else "assistant" for message in messages]
        plain = [{"role": role, "content": _text(message)} for role, message in zip(roles, messages, strict=True)]
        body: dict[str, Any] = {
            "messages": [{"role": "system", "content": _instructions(messages, parameters)}, *plain],
            "tools": _tool_bodies(parameters),
        }
        response = await self._engine.http.post("/v1/chat/completions/input_tokens", content=json.dumps(body))
        if response.status_code != 200:
            # Some chat templates refuse this plain form of a conversation that they accept in its own.
            return len(response.request.content) // 3
        return int(response.json()["input_tokens"])

    def _too_long(self, prompt: int, context: int) -> LocalModelError:
        most = context - MARGIN_TOKENS - SHORTEST_ANSWER_TOKENS
        return LocalModelError(
            f"This message is too long for {self.weights.name}: it comes to {prompt:,} tokens where {most:,} fit "
            f"(about {most * 3:,} characters), so shorten it, or {OTHER_MODEL}."
        )
