"""What a message holds that is its operator's, taken out of the message's JSON before the JSON is given to a visitor.

System prompts, instructions and changes of settings are the operator's own, and so is the address of the provider.
The messages of an agent that a tool ran hold the same.
"""

from collections.abc import Iterator
from typing import Any, cast

from pydantic_core import from_json, to_json

from chat.transcript import HIDDEN_PARTS

_SIGNS = ('"instructions":"', '"provider_url":"', *(f'"part_kind":"{kind}"' for kind in sorted(HIDDEN_PARTS)))
"""What is in the JSON of a message that holds something of it."""


def without_withheld(message_json: str) -> str:
    """A message's JSON without what is the operator's; the very same where there is nothing of it."""
    if not any(sign in message_json for sign in _SIGNS):
        return message_json
    message = cast("dict[str, Any]", from_json(message_json))
    _strip(message)
    return to_json(message, inf_nan_mode="constants").decode()


def _strip(message: dict[str, Any]) -> None:
    for name in ("instructions", "provider_url"):
        if message.get(name) is not None:
            message[name] = None
    parts: list[dict[str, Any]] = message["parts"]
    left = [index for index, part in enumerate(parts) if part["part_kind"] not in HIDDEN_PARTS]
    message["parts"] = [parts[index] for index in left]
    for place in message.get("parley_files", ()):  # They name their part by its number.
        place["at"][0] = left.index(place["at"][0])
    for part in message["parts"]:
        for nested in _messages(part.get("metadata")):
            _strip(nested)


def _messages(metadata: object) -> Iterator[dict[str, Any]]:
    """The messages that a tool handed over with its return."""
    for item in cast("list[object]", metadata) if isinstance(metadata, list) else ():
        if isinstance(item, dict):
            message = cast("dict[str, Any]", item)
            parts = message.get("parts")
            kinds = ("request", "response")
            if (
                message.get("kind") in kinds
                and isinstance(parts, list)
                and all(map(_is_part, cast("list[Any]", parts)))
            ):
                yield message


def _is_part(item: object) -> bool:
    return isinstance(item, dict) and "part_kind" in item
