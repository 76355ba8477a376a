"""Messages as Gradio shows them, and what a person sent as messages: pure functions, no state.

Each kind of part that Pydantic AI defines has one rule in `RULES`, for live and stored messages alike. What isn't meant
for visitors (system prompts, instructions, changes of settings) has a rule that shows it only where that is wanted; a
kind that this version doesn't know is shown as a folded block with its JSON. So nothing is dropped in silence, and
nothing raises.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, cast

from pydantic_ai.messages import (
    BaseToolCallPart,
    BaseToolReturnPart,
    BinaryContent,
    CachePoint,
    Citation,
    CitationSource,
    CompactionPart,
    ContentCitationAnchor,
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
    UserContent,
    UserPromptPart,
    WebCitationSource,
)

from chat.brief import NO_BRIEF, Brief
from chat.file_render import file, is_text_file, shown_text_file
from chat.markup import code, inert, json_text, link, seconds_text
from chat.shown import Answer, FileLink, GradioMessage, Place, Role, Showing, block, text
from chat.timing import thinking_key
from chat.tool_render import feedback, nested_messages, tool_call, tool_return

LONGEST_PROMPT = 4_000_000
"""Characters that a prompt may have."""

SHOWN_PROMPT = 20_000
"""Characters of a prompt that the page shows. The browser parses all it shows anew at each update of a reply."""

SHOWN_REPLY = 200_000
"""Characters of a reply that the page shows: a hundred pages. A browser stands still over more."""

MESSAGES_ALONE = Showing()
"""What is shown of messages of which nothing else is known."""


class PromptRefused(ValueError):
    """A prompt that can't be sent. The message says why, to the person who typed it."""


def prompt_from(typed: str) -> str:
    """What a person typed, exactly, when it can be sent and stored.

    Raises:
        PromptRefused: If it is blank, too long, or holds half a surrogate pair, which has no UTF-8 form.
    """
    if not typed.strip():
        raise PromptRefused("Type a message first.")
    if len(typed) > LONGEST_PROMPT:
        raise PromptRefused(f"This message has {len(typed):,} characters; at most {LONGEST_PROMPT:,} can be sent.")
    try:
        typed.encode()
    except UnicodeEncodeError as error:
        raise PromptRefused(
            f"Character {error.start + 1:,} of this message is half of a Unicode character and can't be stored. "
            "Remove it and send again."
        ) from error
    return typed


def to_gradio(
    messages: Iterable[tuple[str, ModelMessage]],
    *,
    notes: Mapping[str, str] | None = None,
    took: Mapping[str, str] | None = None,
    live: bool = False,
    turn: str | None = None,
    showing: Showing = MESSAGES_ALONE,
) -> list[GradioMessage]:
    """Messages as a chatbot shows them.

    Args:
        messages: Each with its entry's id, oldest first.
        notes: A sentence to show below the turn that an entry began, by that entry's id.
        took: A line about what a turn took, to show at its end, by the same ids: see `chat.summary`.
        live: Whether a run is at work on the last of them; an unanswered tool call is then still running.
        turn: The entry that began the turn of the first messages, when it is not among them.
        showing: What the messages do not say themselves.
    """
    messages = list(messages)
    answers, answered = _pair(messages)
    last = _last_part(messages) if live else None
    shown: list[GradioMessage] = []
    entry_id = ""
    told = showing.briefs.get(turn or "", NO_BRIEF)
    thoughts = 0
    for following_id, message in messages:
        if starts_turn(message):
            shown.extend(_below(turn, entry_id, notes, took))
            turn, thoughts = following_id, 0
        entry_id = following_id
        seconds = showing.timings.get(turn or "", {})
        if isinstance(message, ModelRequest) and showing.show_system:
            new = _brief(message, showing.briefs.get(entry_id), told)
            shown.extend(_told(new, told, entry_id))
            told = new
        for index, part in enumerate(message.parts):
            part_id = f"{entry_id}:{index}"
            place = Place(
                showing,
                entry_id,
                live=live,
                newest=part_id == last,
                seconds=seconds.get(_timing_key(part, thoughts)),
                answer=answers.get(part_id),
                answered=part_id in answered,
            )
            shown.extend(_show(part, part_id, place))
            thoughts += isinstance(part, ThinkingPart)
    return [*shown, *_below(turn, entry_id, notes, took)]


def starts_turn(message: ModelMessage) -> bool:
    """Whether a person's prompt is in this message."""
    return isinstance(message, ModelRequest) and any(
        isinstance(part, UserPromptPart) or (isinstance(part, SpeechPart) and part.speaker == "user")
        for part in message.parts
    )


def prompt_text(message: ModelMessage) -> str:
    """The text of the prompts in a message, without what else was attached."""
    prompts = [part for part in message.parts if isinstance(part, UserPromptPart)]
    return "\n\n".join(words for prompt in prompts for words in _texts(prompt.content))


def from_gradio(history: Sequence[Any]) -> list[ModelMessage]:
    """Messages from what Gradio apps keep: `(user, bot)` pairs, or dicts with `role` and `content`.

    Files become their names: a path that a client names is never read. Folded blocks become thinking.
    """
    messages: list[ModelMessage] = []
    for item in history:
        for role, content, title in _said(item):
            words = _gradio_text(content)
            if role == "assistant":
                _append_response(messages, TextPart(words) if title is None else ThinkingPart(words))
            else:
                _append_request(messages, SystemPromptPart(words) if role == "system" else UserPromptPart(words))
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


_Rule = Callable[[Any, Place], Iterable[GradioMessage]]


def _show(part: Any, part_id: str, place: Place) -> Iterator[GradioMessage]:
    for message in RULES.get(part.part_kind, _unknown)(part, place):
        message["metadata"]["id"] = part_id
        yield message
    stray = isinstance(part, BaseToolReturnPart) and not place.answered
    answer = Answer(place.entry_id, cast("BaseToolReturnPart[Any]", part)) if stray else place.answer
    if answer is not None:
        yield from _nested(answer, part_id, place.showing)


def _nested(answer: Answer, parent_id: str, showing: Showing) -> Iterator[GradioMessage]:
    """What an agent that a tool ran did, inside the tool's block."""

    def files(_: str, content: BinaryContent) -> FileLink | None:
        return showing.files(answer.entry_id, content)  # They belong to the entry that holds these messages.

    inside = replace(showing, files=files)
    messages = enumerate(nested_messages(answer.part))
    for message in to_gradio([(f"{parent_id}.{index}", each) for index, each in messages], showing=inside):
        metadata = message["metadata"]
        metadata.setdefault("parent_id", parent_id)
        metadata.setdefault("status", "done")
        # What has no title would be a block without one there.
        metadata.setdefault("title", "Asked" if message["role"] == "user" else "Answered")
        message["role"] = "assistant"
        yield message


def _user_prompt(part: UserPromptPart, place: Place) -> Iterable[GradioMessage]:
    content = [part.content] if isinstance(part.content, str) else part.content
    left = SHOWN_PROMPT
    for words, items in groupby(content, key=_is_words):
        if not words:
            yield from (text("user", _attached(item, place)) for item in items if not isinstance(item, CachePoint))
            continue
        said = "\n\n".join(_texts(list(items)))
        if len(said) > left:
            rest = f"… and {len(said) - left:,} more characters, which the model was sent too."
            said = f"{said[:left]}\n\n*{rest}*"
        left = max(0, left - len(said))
        if said:
            yield text("user", said)


def _attached(item: Any, place: Place) -> str:
    return shown_text_file(item) if isinstance(item, TextContent) else file(item, place)


def _is_words(item: object) -> bool:
    return isinstance(item, str | TextContent) and not is_text_file(item)


def _reply_text(part: TextPart, place: Place) -> Iterable[GradioMessage]:
    if len(part.content) > SHOWN_REPLY:
        rest = f"… and {len(part.content) - SHOWN_REPLY:,} more characters, which are stored and not shown."
        yield text("assistant", f"{part.content[:SHOWN_REPLY]}\n\n*{rest}*")
    elif part.content:
        yield text("assistant", _cited(part.content, part.citations) if part.citations else part.content)


def _thinking(part: ThinkingPart, place: Place) -> Iterable[GradioMessage]:
    known = place.seconds is not None and not place.newest
    title = f"Thought for {seconds_text(place.seconds or 0)}" if known else "Thinking"
    shown = block("assistant", title, part.content or "*The provider keeps this to itself.*")
    if place.newest:
        shown["metadata"]["status"] = "pending"
    yield shown


def _retry(part: RetryFeedbackPart, place: Place) -> Iterable[GradioMessage]:
    shown = block("assistant", "Asked to try again", feedback(part.content))
    retry = getattr(part, "retry", None)  # An older kind of part has none.
    if retry is not None and retry.attempt:
        shown["metadata"]["log"] = f"attempt {retry.attempt} of {retry.max_retries}"
    yield shown


def _compaction(part: CompactionPart, place: Place) -> Iterable[GradioMessage]:
    yield block("assistant", "Earlier messages, summarised", part.content or "*The provider keeps this to itself.*")


def _file(part: FilePart, place: Place) -> Iterable[GradioMessage]:
    yield text("assistant", file(part.content, place))


def _speech(part: SpeechPart, place: Place) -> Iterable[GradioMessage]:
    role: Role = "user" if part.speaker == "user" else "assistant"
    if part.audio is not None:
        yield text(role, file(part.audio, place))
    if part.content or part.audio is None:
        yield text(role, part.content or "*Speech without a transcript.*")


def _not_for_visitors(title: str) -> _Rule:
    def rule(part: Any, place: Place) -> Iterable[GradioMessage]:
        if place.showing.show_system:
            content: object = getattr(part, "content", None)
            yield block("assistant", title, code(content if isinstance(content, str) else json_text(part)))

    return rule


def _unknown(part: Any, place: Place) -> Iterable[GradioMessage]:
    yield block("assistant", inert(str(part.part_kind)), code(json_text(part), "json"))


RULES: dict[str, _Rule] = {
    "user-prompt": _user_prompt,
    "text": _reply_text,
    "thinking": _thinking,
    "tool-call": tool_call,
    "tool-return": tool_return,
    "builtin-tool-call": tool_call,
    "builtin-tool-return": tool_return,
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


def _pair(messages: Iterable[tuple[str, ModelMessage]]) -> tuple[dict[str, Answer], set[str]]:
    """The return of each call, by the call's part id, and the part ids of these returns.

    A return belongs to the nearest call before it that has its id: some models use an id again.
    """
    calls: dict[str, str] = {}
    answers: dict[str, Answer] = {}
    answered: set[str] = set()
    for entry_id, message in messages:
        for index, part in enumerate(message.parts):
            if isinstance(part, BaseToolCallPart):
                calls[part.tool_call_id] = f"{entry_id}:{index}"
            elif isinstance(part, BaseToolReturnPart) and (call := calls.pop(part.tool_call_id, None)):
                answers[call] = Answer(entry_id, cast("BaseToolReturnPart[Any]", part))
                answered.add(f"{entry_id}:{index}")
    return answers, answered


def _last_part(messages: Sequence[tuple[str, ModelMessage]]) -> str | None:
    return next((f"{entry_id}:{len(message.parts) - 1}" for entry_id, message in messages[-1:]), None)


def _timing_key(part: Any, thoughts: int) -> str:
    return thinking_key(thoughts) if isinstance(part, ThinkingPart) else str(getattr(part, "tool_call_id", ""))


def _brief(message: ModelRequest, noted: Brief | None, before: Brief) -> Brief:
    """What a request told the model. Requests of which nothing is known told it what the one before did."""
    return noted or replace(before, instructions=message.instructions or before.instructions)


def _told(new: Brief, before: Brief, entry_id: str) -> Iterator[GradioMessage]:
    """What a brief tells that the one before didn't."""
    if new.system != before.system:
        yield from (_words_told("System prompt", words, f"{entry_id}:system") for words in new.system)
    if new.instructions and new.instructions != before.instructions:
        yield _words_told("Instructions", new.instructions, f"{entry_id}:instructions")


def _words_told(title: str, words: str, message_id: str) -> GradioMessage:
    shown = block("assistant", title, code(words))
    shown["metadata"]["id"] = message_id
    return shown


def _below(
    turn: str | None, entry_id: str, notes: Mapping[str, str] | None, took: Mapping[str, str] | None
) -> Iterator[GradioMessage]:
    """What stands below a turn that ends with an entry: what it took, and how it ended, when not well."""
    said = {"took": ("<small>{}</small>", took), "note": ("*{}*", notes)}
    for name, (form, lines) in said.items():
        if turn is not None and lines is not None and turn in lines:
            message = text("assistant", form.format(lines[turn]))
            message["metadata"]["id"] = f"{entry_id}:{name}"
            yield message


def _cited(content: str, citations: Sequence[Citation]) -> str:
    """A text with numbers behind what its sources back, and the sources below it."""
    numbers: dict[str, int] = {}
    marks: list[tuple[int, str]] = []
    for citation in citations:
        cited = [numbers.setdefault(_source(source), len(numbers) + 1) for source in citation.sources]
        if isinstance(citation.anchor, ContentCitationAnchor):  # Else the model has written a mark of its own.
            marks.append((citation.anchor.end, ", ".join(map(str, cited))))
    for end, mark in sorted(marks, reverse=True):
        if content[:end].count("```") % 2 == 0:  # In a code block it would be code.
            content = f"{content[:end]}<sup>{mark}</sup>{content[end:]}"
    sources = " · ".join(f"{number}. {source}" for source, number in numbers.items())
    return f"{content}\n\n<small>Sources: {sources}</small>"


def _source(source: CitationSource) -> str:
    if isinstance(source, WebCitationSource):
        return link(source.url, source.title)
    return inert(source.title or source.document_id or "a document")


def _texts(content: str | Sequence[UserContent]) -> list[str]:
    if isinstance(content, str):
        return [content]
    words = (item for item in content if _is_words(item))
    return [item.content if isinstance(item, TextContent) else cast("str", item) for item in words]


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
