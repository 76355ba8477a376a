"""A conversation for readers elsewhere: what was said, what a click unfolds, and files, in order. Pure functions.

It is what an exported Markdown file and a shared page are made of; the chat itself has `chat.render`, which shows what
happens while it happens. As there, each kind of part that Pydantic AI defines has one rule: what isn't meant for
visitors has one that leaves it out, and a kind that this version doesn't know is folded, as its JSON.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, cast

from pydantic_ai import ModelMessage, ModelResponse
from pydantic_ai.messages import (
    BaseToolCallPart,
    BaseToolReturnPart,
    BinaryContent,
    CachePoint,
    Citation,
    CompactionPart,
    FilePart,
    FileUrl,
    NativeToolCallPart,
    RetryFeedbackPart,
    SpeechPart,
    TextContent,
    TextPart,
    ThinkingPart,
    UploadedFile,
    UserPromptPart,
    WebCitationSource,
)
from pydantic_core import from_json

from chat.file_render import is_file, is_text_file, text_in_file
from chat.markup import inert, json_text, link, outline
from chat.tool_render import OUTPUT_TAKEN, nested_messages

Speaker = Literal["person", "assistant"]

HIDDEN_PARTS = frozenset(
    (
        "system-prompt",
        "instruction-baseline",
        "instruction-delta",
        "tool-availability-delta",
        "capability-load-delta",
        "model-settings-delta",
    )
)
"""The kinds of parts that are the operator's, not a reader's."""


@dataclass(frozen=True)
class Detail:
    """A piece of what a click unfolds: text as it is, in a language such as `json`, or Markdown when it is `None`."""

    label: str
    text: str
    language: str | None = "text"


@dataclass(frozen=True)
class Said:
    """Markdown that somebody wrote."""

    speaker: Speaker
    markdown: str


@dataclass(frozen=True)
class Folded:
    """What a click unfolds: thinking, a tool call, a text file. `inside` is what an agent did that a tool ran."""

    speaker: Speaker
    title: str
    details: Sequence[Detail]
    inside: "Sequence[Piece]" = ()


@dataclass(frozen=True)
class Attached:
    """A file, light or whole, and the entry that it is in."""

    speaker: Speaker
    entry_id: str
    content: BinaryContent


Piece = Said | Folded | Attached


@dataclass(frozen=True)
class Shown:
    """What a transcript tells beside what was said.

    Args:
        tools: Tool calls with their arguments and results, the files in these, and what else a run did.
        thinking: What a model thought before it answered.
    """

    tools: bool = True
    thinking: bool = True


ALL = Shown()


def transcript(
    messages: Iterable[tuple[str, ModelMessage]], shown: Shown = ALL, notes: Mapping[str, str] | None = None
) -> list[Piece]:
    """What there is to read, oldest first.

    Args:
        messages: Each with its entry's id, oldest first.
        shown: What is told beside what was said.
        notes: A sentence about how the turn that an entry began ended, by that entry's id.
    """
    messages = list(messages)
    answers = _answers(messages)
    pieces: list[Piece] = []
    note: str | None = None
    for entry_id, message in messages:
        if any(isinstance(part, UserPromptPart | SpeechPart) for part in message.parts) and note:
            pieces.append(Said("assistant", f"*{inert(note)}*"))
            note = None
        note = (notes or {}).get(entry_id, note)
        for index, part in enumerate(message.parts):
            place = _Place(entry_id, shown, answers.get((entry_id, index)))
            pieces.extend(RULES.get(part.part_kind, _unknown)(part, place))
        if notes is None and isinstance(message, ModelResponse) and message.state == "interrupted":
            pieces.append(Said("assistant", "*Interrupted.*"))
    return [*pieces, Said("assistant", f"*{inert(note)}*")] if note else pieces


@dataclass(frozen=True)
class _Place:
    entry_id: str
    shown: Shown
    answer: "tuple[str, BaseToolReturnPart[Any]] | _Answered | None"


class _Answered:
    """In the place of a return whose call is shown."""


_ANSWERED = _Answered()


def _answers(messages: Sequence[tuple[str, ModelMessage]]) -> dict[tuple[str, int], Any]:
    """By entry and part: the return of each call and its entry; of each such return, that it is part of its call's."""
    calls: dict[str, tuple[str, int]] = {}
    answers: dict[tuple[str, int], Any] = {}
    for entry_id, message in messages:
        for index, part in enumerate(message.parts):
            if isinstance(part, BaseToolCallPart):
                calls[part.tool_call_id] = entry_id, index
            elif isinstance(part, BaseToolReturnPart) and (call := calls.pop(part.tool_call_id, None)):
                answers[call] = entry_id, part
                answers[entry_id, index] = _ANSWERED
    return answers


def _prompt(part: UserPromptPart, place: _Place) -> Iterator[Piece]:
    content = [part.content] if isinstance(part.content, str) else part.content
    for words, items in groupby(
        content, key=lambda item: isinstance(item, str | TextContent) and not is_text_file(item)
    ):
        if words:
            texts = [item if isinstance(item, str) else cast("TextContent", item).content for item in items]
            yield from _said("person", "\n\n".join(texts))
            continue
        for item in items:
            if not isinstance(item, CachePoint):
                yield from _item(item, "person", place)


def _item(item: Any, speaker: Speaker, place: _Place) -> Iterator[Piece]:
    """A file, or what else can be among a prompt's text."""
    if isinstance(item, TextContent):
        name, words = text_in_file(item)
        yield Folded(speaker, name, [Detail("", words)])
    elif isinstance(item, BinaryContent):
        yield Attached(speaker, place.entry_id, item)
    elif isinstance(item, FileUrl):
        yield Said(speaker, _link(item.url))
    elif isinstance(item, UploadedFile):
        yield Said(speaker, f"File {inert(item.file_id)} at {inert(item.provider_name)}")
    else:
        yield Folded(speaker, "Data", [Detail("", json_text(item), "json")])


def _text(part: TextPart, place: _Place) -> Iterator[Piece]:
    yield from _said("assistant", part.content)
    if part.citations:
        sources = dict.fromkeys(source for citation in part.citations for source in _sources(citation))
        yield Said("assistant", f"Sources: {' · '.join(sources)}")


def _sources(citation: Citation) -> Iterator[str]:
    for source in citation.sources:
        yield (
            _link(source.url, source.title)
            if isinstance(source, WebCitationSource)
            else inert(source.title or source.document_id or "a document")
        )


def _thinking(part: ThinkingPart, place: _Place) -> Iterator[Piece]:
    if place.shown.thinking and part.content:
        yield Folded("assistant", "Thinking", [Detail("", part.content, None)])


def _call(part: BaseToolCallPart[Any], place: _Place) -> Iterator[Piece]:
    found = place.answer if isinstance(place.answer, tuple) else None
    answer = None if found is None else found[1]
    if answer is not None and answer.outcome == "success" and answer.content == OUTPUT_TAKEN:
        yield from _output(part)
    elif place.shown.tools:
        name = part.tool_name if isinstance(part, NativeToolCallPart) else f"Tool: {part.tool_name}"
        yield _tool(name, _arguments(part), answer, place.shown)
        if found is not None:
            yield from _files_of(*found)


def _return(part: BaseToolReturnPart[Any], place: _Place) -> Iterator[Piece]:
    """A return whose call is before the messages that are shown."""
    if place.shown.tools and not isinstance(place.answer, _Answered):
        yield _tool(f"Tool: {part.tool_name}", [], part, place.shown)
        yield from _files_of(place.entry_id, part)


def _tool(name: str, arguments: Sequence[Detail], answer: BaseToolReturnPart[Any] | None, shown: Shown) -> Folded:
    status = "no result" if answer is None else "done" if answer.outcome == "success" else answer.outcome
    inside: Sequence[Piece] = ()
    details = [*arguments]
    if answer is not None:
        rest = _without_files(answer.content)
        details += [] if rest is None else [_value("Result", rest)]
        nested = [(str(index), message) for index, message in enumerate(nested_messages(answer))]
        inside = [piece for piece in transcript(nested, shown) if not isinstance(piece, Attached)]
    return Folded("assistant", f"{name} · {status}", details, inside)


def _arguments(part: BaseToolCallPart[Any]) -> list[Detail]:
    args = part.args if isinstance(part.args, str) and part.args else part.args_as_json_str()
    return [] if args == "{}" else [_value("Arguments", args)]


def _value(label: str, value: object) -> Detail:
    """A value as JSON that is set out, or as the text that it is."""
    if isinstance(value, str):
        try:
            return Detail(label, json_text(from_json(value)), "json")
        except ValueError:
            return Detail(label, value)
    return Detail(label, json_text(value), "json")


def _without_files(content: object) -> object:
    if is_file(content):
        return None
    if isinstance(content, list):
        rest = [item for item in cast("list[object]", content) if not is_file(item)]
        return rest or None
    return content


def _files_of(entry_id: str, part: BaseToolReturnPart[Any]) -> Iterator[Piece]:
    content: object = part.content
    items = cast("list[object]", content) if isinstance(content, list) else [content]
    for item in items:
        if is_file(item):
            yield from _item(item, "assistant", _Place(entry_id, ALL, None))


def _output(part: BaseToolCallPart[Any]) -> Iterator[Piece]:
    """What a run ended with, when it isn't text."""
    args = part.args_as_dict()
    fields: object = args["response"] if list(args) == ["response"] else args
    if fields:
        words = outline(fields)
        # A long table unfolds in the chat; elsewhere it is what it is made of.
        folds = "<details>" in words
        yield Folded("assistant", "Reply", [_value("", fields)]) if folds else Said("assistant", words)


def _feedback(part: RetryFeedbackPart, place: _Place) -> Iterator[Piece]:
    if place.shown.tools:
        yield Folded("assistant", "Asked to try again", [_value("", part.content)])


def _compaction(part: CompactionPart, place: _Place) -> Iterator[Piece]:
    if place.shown.thinking and part.content:
        yield Folded("assistant", "Earlier messages, summarised", [Detail("", part.content, None)])


def _file(part: FilePart, place: _Place) -> Iterator[Piece]:
    yield from _item(part.content, "assistant", place)


def _speech(part: SpeechPart, place: _Place) -> Iterator[Piece]:
    speaker: Speaker = "person" if part.speaker == "user" else "assistant"
    if part.audio is not None:
        yield from _item(part.audio, speaker, place)
    yield from _said(speaker, part.content or ("" if part.audio else "*Speech without a transcript.*"))


def _hidden(part: Any, place: _Place) -> Iterator[Piece]:
    return iter(())


def _unknown(part: Any, place: _Place) -> Iterator[Piece]:
    if place.shown.tools:
        yield Folded("assistant", str(part.part_kind), [Detail("", json_text(part), "json")])


RULES: dict[str, Callable[[Any, _Place], Iterator[Piece]]] = {
    **dict.fromkeys(HIDDEN_PARTS, _hidden),
    "user-prompt": _prompt,
    "text": _text,
    "thinking": _thinking,
    "tool-call": _call,
    "tool-return": _return,
    "builtin-tool-call": _call,
    "builtin-tool-return": _return,
    "retry-feedback": _feedback,
    "retry-prompt": _feedback,
    "compaction": _compaction,
    "file": _file,
    "speech": _speech,
}
"""How each `part_kind` is told."""


def _said(speaker: Speaker, markdown: str) -> Iterator[Piece]:
    if markdown.strip():
        yield Said(speaker, markdown)


def _link(url: str, label: str | None = None) -> str:
    """A link that is Markdown, not HTML: a shared page takes no HTML from it."""
    if not link(url).startswith("<a "):
        return inert(label or url)
    return f"[{inert(label or url)}](<{url}>)" if "<" not in url and ">" not in url else inert(url)
