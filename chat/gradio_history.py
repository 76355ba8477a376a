"""The histories that Gradio apps keep, as conversations.

`gr.ChatInterface(save_history=True)` keeps a list of conversations, each a list of messages with `role` and `content`;
older ones are lists of `(user, bot)` pairs. What visitors flag there is a CSV log with the conversation as JSON in each
row (`gradio.flagging.ChatCSVLogger`).
"""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic_ai import ModelMessage

from chat.render import from_gradio

LOG_COLUMNS = ("conversation", "index", "value")
"""What the first line of a flagging log begins with."""

ROLES = ("user", "assistant", "system")


def conversations_in(value: object) -> list[list[ModelMessage]]:
    """The conversations of a history, one or several.

    Raises:
        ValueError: If it is none.
    """
    if _is_list(value) and all(map(_is_plain_history, _items(value))) and value:
        histories = _items(value)
    elif _is_history(value):
        histories = [value]
    else:
        raise ValueError("It is no list of messages with a role and content, no list of pairs, and no list of those.")
    try:
        found = [from_gradio([_said(item) for item in _items(history)]) for history in histories]
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError("Content in it has no form that Gradio gives it.") from error
    return [messages for messages in found if messages]


def is_flagging_log(text: str) -> bool:
    """Whether a text is a CSV log of flagged conversations, by its first line."""
    return text.lstrip("\ufeff").startswith(",".join(LOG_COLUMNS))


def conversations_in_log(text: str) -> list[list[ModelMessage]]:
    """The conversations of a flagging log: each as it was when it was flagged last.

    Raises:
        ValueError: If it is no such log.
    """
    csv.field_size_limit(len(text) + 1)  # A whole conversation is in one field.
    histories: list[Any] = []
    try:
        for row in csv.DictReader(io.StringIO(text.lstrip("\ufeff"), newline="")):
            history = json.loads(row["conversation"])
            if not _is_history(history):
                raise ValueError("A row of it holds no list of messages.")
            # A log has a row for each flag: a longer one of the same conversation holds the shorter.
            histories = [known for known in histories if history[: len(known)] != known]
            if not any(known[: len(history)] == history for known in histories):
                histories.append(history)
    except (csv.Error, KeyError, TypeError, RecursionError) as error:
        raise ValueError("It is no whole log: a row of it can't be read.") from error
    return conversations_in(histories) if histories else []


def _said(item: Any) -> Any:
    """A message or a pair, in which a file is a tuple again, as JSON has none."""
    return [tuple(_items(said)) if _is_list(said) else said for said in _items(item)] if _is_list(item) else item


def _is_history(value: object) -> bool:
    return _is_list(value) and bool(value) and (_all(value, _is_message) or _all(value, _is_pair))


def _is_plain_history(value: object) -> bool:
    """A history that can't be taken for a pair of files."""
    return _is_list(value) and bool(value) and (_all(value, _is_message) or _all(value, _is_plain_pair))


def _is_message(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    message = cast("Mapping[str, object]", value)
    metadata = message.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        return False
    title = cast("Mapping[str, object]", metadata or {}).get("title")
    return message.get("role") in ROLES and "content" in message and isinstance(title, str | None)


def _is_pair(value: object) -> bool:
    return _is_list(value) and len(_items(value)) == 2 and all(map(_is_said, _items(value)))


def _is_plain_pair(value: object) -> bool:
    return _is_pair(value) and not any(map(_is_list, _items(value)))


def _is_said(value: object) -> bool:
    """What a pair can hold: nothing, text, a file as a mapping, or one as a path with a text for it."""
    is_file = _is_list(value) and len(_items(value)) in (1, 2) and isinstance(_items(value)[0], str)
    return value is None or isinstance(value, str | Mapping) or is_file


def _all(value: object, rule: Any) -> bool:
    return all(map(rule, _items(value)))


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _items(value: object) -> list[Any]:
    return cast("list[Any]", value)
