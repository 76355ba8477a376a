"""Messages as Gradio shows them, and what a person sent as messages: pure functions, no state.

Each kind of part that Pydantic AI defines has one rule in `RULES`. What isn't meant for visitors (system prompts,
instructions, changes of settings) is shown as a folded block that says so without its text; a kind that this version
doesn't know is shown as a folded block with its JSON. So nothing is dropped in silence, and nothing raises.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, NotRequired, TypedDict, cast

from pydantic_ai.messages import (
    BaseToolCallPart,
    BaseToolReturnPart,
    BinaryContent,
    CachePoint,
    CompactionPart,
    FilePart,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    RetryFeedbackPart,
    SpeechPart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    UploadedFile,
    UserContent,
    UserPromptPart,
)
from pydantic_core import to_json

LONGEST_PROMPT = 4_000_000
"""Characters that a prompt may have."""

SHOWN_PROMPT = 20_000
"""Characters of a prompt that the page shows. The browser parses all it shows anew at each update of a reply."""

Role = Literal["user", "assistant", "system"]


class Text(TypedDict):
    """Gradio's text content. A bare string would go through `inspect.cleandoc` and lose its indentation."""

    type: Literal["text"]
    text: str


class Metadata(TypedDict, total=False):
    """Gradio's message metadata. With a `title` the message is a block that folds; `id` is `<entry id>:<part>`."""

    id: str
    title: str
    log: str
    status: Literal["pending", "done"]


class Option(TypedDict):
    """A button under the last message."""

    value: str
    label: str


class GradioMessage(TypedDict):
    """One message of a `gr.Chatbot`."""

    role: Role
    content: list[Text]
    metadata: Metadata
    options: NotRequired[list[Option]]


class PromptRefused(ValueError):
    """A prompt that can't be sent. The message says why, to the person who typed it."""


def prompt_from(text: str) -> str:
    """What a person typed, exactly, when it can be sent and stored.

    Raises:
        PromptRefused: If it is blank, too long, or holds half a surrogate pair, which has no UTF-8 form.
    """
    if not text.strip():
        raise PromptRefused("Type a message first.")
    if len(text) > LONGEST_PROMPT:
        raise PromptRefused(f"This message has {len(text):,} characters; at most {LONGEST_PROMPT:,} can be sent.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptRefused(
            f"Character {error.start + 1:,} of this message is half of a Unicode character and can't be stored. "
            "Remove it and send again."
        ) from error
    return text


def to_gradio(
    messages: Iterable[tuple[str, ModelMessage]], *, notes: Mapping[str, str] | None = None, live: bool = False
) -> list[GradioMessage]:
    """Messages as a chatbot shows them.

    Args:
        messages: Each with its entry's id, oldest first.
        notes: A sentence to show below the turn that an entry began, by that entry's id.
        live: Whether a run is still at work on the last of them; an unanswered tool call is then still running.
    """
    messages = list(messages)
    view = _View(live=live, returns=_tool_returns(message for _, message in messages))
    shown: list[GradioMessage] = []
    note: str | None = None
    for entry_id, message in messages:
        if note is not None and starts_turn(message):
            shown.append(_note(note, entry_id))
            note = None
        note = (notes or {}).get(entry_id, note)
        for index, part in enumerate(message.parts):
            shown.extend(_show(part, f"{entry_id}:{index}", view))
    if note is not None:
        shown.append(_note(note, messages[-1][0]))
    return shown


def starts_turn(message: ModelMessage) -> bool:
    """Whether a person's prompt is in this message."""
    return isinstance(message, ModelRequest) and any(
        isinstance(part, UserPromptPart) or (isinstance(part, SpeechPart) and part.speaker == "user")
        for part in message.parts
    )


def prompt_text(message: ModelMessage) -> str:
    """The text of the prompts in a message, without what else was attached."""
    prompts = [part for part in message.parts if isinstance(part, UserPromptPart)]
    return "\n\n".join(text for prompt in prompts for text in _texts(prompt.content))


def from_gradio(history: Sequence[Any]) -> list[ModelMessage]:
    """Messages from what Gradio apps keep: `(user, bot)` pairs, or dicts with `role` and `content`.

    Files become their names: a path that a client names is never read. Folded blocks become thinking.
    """
    messages: list[ModelMessage] = []
    for item in history:
        for role, content, title in _said(item):
            text = _gradio_text(content)
            if role == "assistant":
                _append_response(messages, TextPart(text) if title is None else ThinkingPart(text))
            else:
                _append_request(messages, SystemPromptPart(text) if role == "system" else UserPromptPart(text))
    return messages


def to_pairs(messages: Iterable[ModelMessage]) -> list[tuple[str | None, str | None]]:
    """Messages as Gradio's classic `(user, bot)` pairs: the prompts' and the replies' text, and nothing else."""
    pairs: list[tuple[str | None, str | None]] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            if starts_turn(message):
                pairs.append((prompt_text(message), None))
        elif message.text is not None:
            user, bot = pairs.pop() if pairs else (None, None)
            pairs.append((user, message.text if bot is None else f"{bot}\n\n{message.text}"))
    return pairs


@dataclass(frozen=True)
class _View:
    """What a rule needs to know beside its part."""

    live: bool
    returns: Mapping[str, BaseToolReturnPart[Any]]
    called: set[str] = field(default_factory=set[str])
    """The calls shown so far: their returns are part of their block."""


_Rule = Callable[[Any, _View], Iterable[GradioMessage]]


def _show(part: Any, part_id: str, view: _View) -> Iterable[GradioMessage]:
    rule = RULES.get(part.part_kind, _unknown)
    for message in rule(part, view):
        message["metadata"]["id"] = part_id
        yield message


def _user_prompt(part: UserPromptPart, view: _View) -> Iterable[GradioMessage]:
    text = "\n\n".join(_texts(part.content))
    if len(text) > SHOWN_PROMPT:
        rest = f"… and {len(text) - SHOWN_PROMPT:,} more characters, which the model was sent too."
        text = f"{text[:SHOWN_PROMPT]}\n\n*{rest}*"
    if text:
        yield _text("user", text)
    if not isinstance(part.content, str):
        for item in part.content:
            if not isinstance(item, str | TextContent | CachePoint):
                yield _block("user", _attachment_name(item), _attachment_body(item))


def _reply_text(part: TextPart, view: _View) -> Iterable[GradioMessage]:
    if part.content:
        yield _text("assistant", part.content)


def _thinking(part: ThinkingPart, view: _View) -> Iterable[GradioMessage]:
    yield _block("assistant", "Thinking", part.content or "*The provider keeps this to itself.*")


def _tool_call(part: BaseToolCallPart[Any], view: _View) -> Iterable[GradioMessage]:
    view.called.add(part.tool_call_id)
    result = view.returns.get(part.tool_call_id)
    # Pydantic AI makes an object of arguments that are cut short or still being written; here they stay as they are.
    args = part.args if isinstance(part.args, str) and part.args else part.args_as_json_str()
    block = _block("assistant", f"Tool: {part.tool_name}", _fenced(args))
    if result is not None:
        block["content"][0]["text"] += f"\n\n{_tool_result(result)}"
        if result.outcome != "success":
            block["metadata"]["log"] = result.outcome
    elif view.live:
        block["metadata"]["status"] = "pending"
    else:
        block["metadata"]["log"] = "interrupted"
    yield block


def _tool_return(part: BaseToolReturnPart[Any], view: _View) -> Iterable[GradioMessage]:
    if part.tool_call_id not in view.called:  # Its call is before the messages that are shown.
        yield _block("assistant", f"Tool: {part.tool_name}", _tool_result(part))


def _retry(part: RetryFeedbackPart, view: _View) -> Iterable[GradioMessage]:
    content = part.content if isinstance(part.content, str) else _fenced(_json_text(part.content))
    yield _block("assistant", "Asked to try again", content)


def _compaction(part: CompactionPart, view: _View) -> Iterable[GradioMessage]:
    yield _block("assistant", "Earlier messages, summarised", part.content or "*The provider keeps this to itself.*")


def _file(part: FilePart, view: _View) -> Iterable[GradioMessage]:
    yield _block("assistant", _attachment_name(part.content), _attachment_body(part.content))


def _speech(part: SpeechPart, view: _View) -> Iterable[GradioMessage]:
    role: Role = "user" if part.speaker == "user" else "assistant"
    yield _text(role, part.content) if part.content else _block(role, "Speech", "*No transcript.*")


def _not_for_visitors(title: str) -> _Rule:
    def rule(part: Any, view: _View) -> Iterable[GradioMessage]:
        yield _block("assistant", title, "*Not shown to visitors.*")

    return rule


def _unknown(part: Any, view: _View) -> Iterable[GradioMessage]:
    yield _block("assistant", str(part.part_kind), _fenced(_json_text(part)))


RULES: dict[str, _Rule] = {
    "user-prompt": _user_prompt,
    "text": _reply_text,
    "thinking": _thinking,
    "tool-call": _tool_call,
    "tool-return": _tool_return,
    "builtin-tool-call": _tool_call,
    "builtin-tool-return": _tool_return,
    "retry-feedback": _retry,
    "retry-prompt": _retry,
    "compaction": _compaction,
    "file": _file,
    "speech": _speech,
    "system-prompt": _not_for_visitors("System prompt"),
    "instruction-baseline": _not_for_visitors("Instructions"),
    "instruction-delta": _not_for_visitors("Instructions changed"),
    "tool-availability-delta": _not_for_visitors("Tools changed"),
    "capability-load-delta": _not_for_visitors("Capabilities changed"),
    "model-settings-delta": _not_for_visitors("Model settings changed"),
}
"""How each `part_kind` is shown."""


def _text(role: Role, text: str) -> GradioMessage:
    return {"role": role, "content": [{"type": "text", "text": text}], "metadata": {}}


def _block(role: Role, title: str, text: str) -> GradioMessage:
    return {
        "role": role,
        "content": [{"type": "text", "text": text}],
        "metadata": {"title": title, "status": "done"},
    }


def _note(sentence: str, entry_id: str) -> GradioMessage:
    message = _text("assistant", f"*{sentence}*")
    message["metadata"]["id"] = f"{entry_id}:note"
    return message


def _tool_returns(messages: Iterable[ModelMessage]) -> dict[str, BaseToolReturnPart[Any]]:
    return {
        part.tool_call_id: cast("BaseToolReturnPart[Any]", part)
        for message in messages
        for part in message.parts
        if isinstance(part, BaseToolReturnPart)
    }


def _tool_result(part: BaseToolReturnPart[Any]) -> str:
    content: object = part.content
    return content if isinstance(content, str) else _fenced(_json_text(content))


def _texts(content: str | Sequence[UserContent]) -> list[str]:
    if isinstance(content, str):
        return [content]
    texts = (item if isinstance(item, str) else item.content for item in content if isinstance(item, str | TextContent))
    return list(texts)


def _attachment_name(item: Any) -> str:
    return f"Attached {getattr(item, 'media_type', None) or getattr(item, 'kind', 'content')}"


def _attachment_body(item: Any) -> str:
    if isinstance(item, BinaryContent):
        return f"{len(item.data):,} bytes"
    if isinstance(item, UploadedFile):
        return f"File {item.file_id} at {item.provider_name}"
    return _fenced(str(getattr(item, "url", None) or _json_text(item)))


def _json_text(value: object) -> str:
    return to_json(value, indent=2, fallback=repr, bytes_mode="base64").decode()


def _fenced(text: str) -> str:
    """Text as a code block whose fence is longer than any run of backticks in it; JSON is set out."""
    try:
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        language = "json"
    except ValueError:
        language = ""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


_BACKSLASH = "\\"


def _gradio_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        item = cast("Mapping[str, Any]", content)
        if "text" in item:
            return str(item["text"])
        file = cast("Mapping[str, Any]", item.get("file") or item)
        name = str(file.get("orig_name") or file.get("path") or "file")
        return f"[{PurePosixPath(name.replace(_BACKSLASH, '/')).name}]"
    if isinstance(content, tuple):  # Pairs name a file as `(path,)` or `(path, alternative text)`.
        return _gradio_text({"path": content[0]})
    if isinstance(content, Sequence):
        return "\n\n".join(_gradio_text(item) for item in cast("Sequence[Any]", content))
    return f"[{type(content).__name__}]"


def _said(item: Any) -> Iterable[tuple[str, Any, str | None]]:
    """Role, content and block title of what a pair or a dict says."""
    if isinstance(item, Mapping):
        message = cast("Mapping[str, Any]", item)
        metadata = cast("Mapping[str, Any]", message.get("metadata") or {})
        yield message["role"], message["content"], metadata.get("title")
    else:
        for role, content in zip(("user", "assistant"), cast("Sequence[Any]", item), strict=True):
            if content is not None:
                yield role, content, None


def _append_response(messages: list[ModelMessage], part: ModelResponsePart) -> None:
    """Add a part to the reply that the messages end with, or to a new one."""
    last = messages[-1] if messages else None
    if isinstance(last, ModelResponse):
        last.parts = [*last.parts, part]
    else:
        messages.append(ModelResponse(parts=[part]))


def _append_request(messages: list[ModelMessage], part: ModelRequestPart) -> None:
    """Add a part to the request that the messages end with, or to a new one."""
    last = messages[-1] if messages else None
    if isinstance(last, ModelRequest):
        last.parts = [*last.parts, part]
    else:
        messages.append(ModelRequest(parts=[part]))
