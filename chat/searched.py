"""What of a stored message can be found: all that a page shows of it, and nothing else.

A rule for each kind of part, as in `chat.render`, over the JSON of the message's row. What visitors don't see (system
prompts, instructions, changes of settings) is not found either, and the data of files never is: their names are. A
kind that this version doesn't know is found by its texts, as it is shown by its JSON.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from pydantic_core import from_json

MOST = 200_000
"""Characters of a message that can be found: a hundred pages, and as much as a page shows of a reply."""

_ENCODED = re.compile(
    r"(?:[A-Za-z0-9+/]{60,}\r?\n){2,}[A-Za-z0-9+/]*={0,2}"  # in lines, as mail has it,
    r"|[A-Za-z0-9+/_-]{200,}={0,2}"  # or in one.
)
_EACH_OF = (re.compile(r"[a-z]"), re.compile(r"[A-Z]"), re.compile(r"[0-9]"))

_Part = Mapping[str, Any]
_Rule = Callable[[_Part], Iterator[str]]


def text_of(message_json: str) -> str:
    """The text of a message's row that can be found: its pieces on lines of their own, up to `MOST` characters."""
    try:
        message = from_json(message_json)
    except ValueError:  # Nested deeper than it can be read; it is stored all the same.
        return ""
    pieces: list[str] = []
    left = MOST
    for piece in _pieces(message):
        shortened = _without_encoded(piece[: left * 2])[:left]
        if shortened:
            pieces.append(shortened)
            left -= len(shortened) + 1
        if left <= 0:
            break
    return "\n".join(pieces)


def _pieces(message: Mapping[str, Any]) -> Iterator[str]:
    for part in message.get("parts", ()):
        yield from RULES.get(part.get("part_kind"), _unknown)(part)


def _user_prompt(part: _Part) -> Iterator[str]:
    content: object = part.get("content")
    for item in cast("list[object]", content) if isinstance(content, list) else [content]:
        yield from _content(item)


def _content(item: object) -> Iterator[str]:
    """A piece of a prompt: words, a text file, the name of another file, or an address."""
    if isinstance(item, Mapping):
        fields = cast("_Part", item)
        known = [fields[name] for name in ("content", "url", "file_id", "identifier") if fields.get(name)]
        yield from map(str, known[:1])  # An address also has an identifier, which is made of it.
    else:
        yield from _texts(item)


def _words(part: _Part) -> Iterator[str]:
    yield from _texts(part.get("content"))


def _speech(part: _Part) -> Iterator[str]:
    yield from _texts(part.get("transcript"))


def _file(part: _Part) -> Iterator[str]:
    yield from _texts(part.get("content"))


def _tool_call(part: _Part) -> Iterator[str]:
    yield from _texts(part.get("tool_name"))
    args: object = part.get("args")
    yield from _texts(_decoded(args) if isinstance(args, str) else args)


def _tool_return(part: _Part) -> Iterator[str]:
    # Not its name: the call has it.
    yield from _texts(part.get("content"))
    metadata = part.get("metadata")
    if _are_messages(metadata):  # What an agent that the tool ran did, which is shown inside the tool's block.
        for message in cast("list[Mapping[str, Any]]", metadata):
            yield from _pieces(message)


def _feedback(part: _Part) -> Iterator[str]:
    yield from _texts(part.get("content"))


def _not_for_visitors(part: _Part) -> Iterator[str]:
    return iter(())


def _unknown(part: _Part) -> Iterator[str]:
    yield from _texts(part)


RULES: dict[str, _Rule] = {
    "user-prompt": _user_prompt,
    "text": _words,
    "thinking": _words,
    "tool-call": _tool_call,
    "tool-return": _tool_return,
    "builtin-tool-call": _tool_call,
    "builtin-tool-return": _tool_return,
    "retry-feedback": _feedback,
    "retry-prompt": _feedback,
    "compaction": _words,
    "file": _file,
    "speech": _speech,
    "system-prompt": _not_for_visitors,
    "instruction-baseline": _not_for_visitors,
    "instruction-delta": _not_for_visitors,
    "tool-availability-delta": _not_for_visitors,
    "capability-load-delta": _not_for_visitors,
    "model-settings-delta": _not_for_visitors,
}
"""What of each `part_kind` is found."""


def _texts(value: object) -> Iterator[str]:
    """The texts and numbers in a value, and the names of its fields; of a file its name."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        fields = cast("_Part", value)
        if fields.get("kind") == "binary" and "data" in fields:
            yield from _texts(fields.get("identifier"))
            return
        for name, field in fields.items():
            yield name
            yield from _texts(field)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _decoded(args: str) -> object:
    """A call's arguments, which some providers send as JSON; as they are when they are cut short."""
    try:
        return from_json(args)
    except ValueError:
        return args


def _are_messages(metadata: object) -> bool:
    if not isinstance(metadata, list) or not metadata:
        return False
    return all(
        isinstance(item, Mapping) and isinstance(cast("_Part", item).get("parts"), list)
        for item in cast("list[object]", metadata)
    )


def _without_encoded(text: str) -> str:
    """The text without what looks like base64: long, without spaces, of small and capital letters and digits."""
    return _ENCODED.sub(lambda run: " " if all(kind.search(run[0]) for kind in _EACH_OF) else run[0], text)
