"""Files: the binary content of messages, kept once by content beside the rows of the messages.

A row keeps a light message: Pydantic AI's own JSON, in which binary content has no data. Which file belongs where
stands before the message's own keys, under `parley_files`: nothing that a person, a tool or a model wrote gets there.
Read back, light content holds `_Elsewhere` as its data: no bytes, but the name of the file that has them. It is a type,
so no content can pass for it either.

Data goes into messages and out of them as it is: to make base64 of 20 MB would hold up everybody for 0.15 s.
"""

import hashlib
import json
import mimetypes
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self, TypedDict, cast

from pydantic_ai import ModelMessage
from pydantic_ai.messages import BaseToolReturnPart, BinaryContent, FilePart, SpeechPart, TextPart, UserPromptPart

from chat.database import Database

DEEPEST = 100
"""Levels of a tool's lists and mappings in which files are looked for; JSON that is twice as deep can't be read."""

LONGEST_NAME = 120
"""Characters of a file's name."""

LONGEST_NAME_BYTES = 200
"""Bytes of it in UTF-8: no system takes more than 255, and endings and numbers are added."""

_FORBIDDEN_IN_NAMES = str.maketrans(dict.fromkeys('<>:"/\\|?*', "_"))
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)\s*(\.|$)", re.IGNORECASE)


@dataclass(frozen=True)
class StoredFile:
    """What is known of a file without reading it. `id` is the content's SHA-256 in hexadecimal, `size` in bytes."""

    id: str
    size: int
    media_type: str
    name: str


class Place(TypedDict):
    """Where a message has which file: the number of its part, the part's field, and what leads on inside that."""

    at: Sequence[str | int]
    id: str
    size: int


@dataclass(frozen=True)
class Light:
    """A message without the data of its files. `files` has the data by id, empty where it was light before."""

    message: ModelMessage
    places: Sequence[Place]
    files: Mapping[str, bytes]


class _Elsewhere(bytes):
    """The data of light content: empty, and the name of the file that has it."""

    file_id: str
    size: int

    def __new__(cls, file_id: str, size: int) -> Self:
        self = super().__new__(cls)
        self.file_id, self.size = file_id, size
        return self

    def __getnewargs__(self) -> tuple[str, int]:  # pyright: ignore[reportIncompatibleMethodOverride]  # as `__new__` takes it, for copies
        return self.file_id, self.size


class Files:
    """The stored files, in a database that is open."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, content: BinaryContent, start: int = 0, end: int | None = None) -> bytes:
        """The data of content, light or whole, from the byte at `start` to before the one at `end`.

        Raises:
            LookupError: If its file was deleted meanwhile.
        """
        data = content.data
        if not isinstance(data, _Elsewhere):
            return data[start:end]
        length = (data.size if end is None else end) - start
        row = await self._database.row(
            "SELECT substr(data, ?, ?) AS data FROM file WHERE id = ?", (start + 1, length, data.file_id)
        )
        if row is None:
            raise LookupError(f"File {data.file_id!r} is not in the store.")
        return row["data"]

    async def to_send(self, messages: Sequence[ModelMessage], most: int) -> list[ModelMessage]:
        """Messages as a model is given them, with the data of their newest files: at most `most` bytes in all.

        The last message has all of its own. Of what came before the first that is too much, the model is told the name.
        The messages themselves stay as they are.

        Raises:
            LookupError: If a file was deleted meanwhile.
        """
        left, sent = most, dict[int, bytes]()
        read: dict[str, bytes] = {}
        for message in reversed(messages):
            for content in reversed(binary_contents(message)):
                file = file_of(content)
                left -= 0 if file is None or file.id in read else file.size
                if file is not None and (left >= 0 or message is messages[-1]):
                    if file.id not in read:
                        read[file.id] = await self.read(content)
                    sent[id(content)] = read[file.id]
        return [_with_data(message, sent) for message in messages]

    async def put_back(self, contents: Sequence[BinaryContent]) -> None:
        """Make light content whole. Each file is read once, and shared by all who have it.

        Raises:
            LookupError: If a file was deleted meanwhile.
        """
        read: dict[str, bytes] = {}
        for content in contents:
            if isinstance(content.data, _Elsewhere):
                file_id = content.data.file_id
                if file_id not in read:
                    read[file_id] = await self.read(content)
                content.data = read[file_id]


def file_of(content: BinaryContent) -> StoredFile | None:
    """The file of binary content, light or whole; `None` when it is empty."""
    data = content.data
    if isinstance(data, _Elsewhere):
        return StoredFile(data.file_id, data.size, content.media_type, _name(content))
    return StoredFile(_known_id(content), len(data), content.media_type, _name(content)) if data else None


def binary_contents(message: ModelMessage) -> list[BinaryContent]:
    """All binary content of a message that a person, a model or a tool gave it."""
    found: list[BinaryContent] = []

    def note(at: _At, content: BinaryContent) -> BinaryContent:
        found.append(content)
        return content

    _changed(message, note)
    return found


def take_out(message: ModelMessage) -> Light:
    """The message without its files' data, and these. The message itself stays as it is.

    Reads all of the data once, for its id: 1 ms for each MB.
    """
    places: list[Place] = []
    files: dict[str, bytes] = {}

    def empty(at: _At, content: BinaryContent) -> BinaryContent:
        data = content.data
        if isinstance(data, _Elsewhere):
            place = Place(at=at, id=data.file_id, size=data.size)
        elif data:
            place = Place(at=at, id=hashlib.sha256(data).hexdigest(), size=len(data))
        else:
            return content
        places.append(place)
        files[place["id"]] = files.get(place["id"]) or data
        return _emptied(content)

    return Light(_changed(message, empty), places, files)


def mark(message: ModelMessage, places: Sequence[Place]) -> list[BinaryContent]:
    """Let content that was taken out name its file; the content of these places.

    Raises:
        LookupError: If there is no empty content at one of the places.
    """
    contents = [_content_at(message, place["at"]) for place in places]
    for content, place in zip(contents, places, strict=True):
        content.data = _Elsewhere(place["id"], place["size"])
    return contents


def _with_data(message: ModelMessage, data: Mapping[int, bytes]) -> ModelMessage:
    """A message as a model is given it; `data` is that of its files, by the content's `id()`."""

    def give(at: _At, content: BinaryContent) -> BinaryContent | str:
        if id(content) not in data:
            return content if file_of(content) is None else f"[{_name(content)} was here. It is not sent again.]"
        if content.data is data[id(content)]:
            return content
        whole = copy(content)
        whole.data = data[id(content)]
        return whole

    if not binary_contents(message):
        return message
    changed = _changed(message, give)
    changed.parts = [_told(part) for part in changed.parts]  # pyright: ignore[reportAttributeAccessIssue]  # each part stays of a kind that the message can have
    return changed


def _told(part: Any) -> Any:
    """A part that can hold nothing but a file, when that is only named."""
    if isinstance(part, FilePart) and isinstance(cast("object", part.content), str):
        return TextPart(cast("str", part.content))
    if isinstance(part, SpeechPart) and isinstance(cast("object", part.audio), str):
        return replace(part, audio=None)
    return part


PLACES = "parley_files"
"""The field of a message's JSON that says where it has which file; it is the first, where a message has files."""

BEFORE_PLACES = f'{{"{PLACES}":'


def with_places(message_json: str, places: Sequence[Place]) -> str:
    """A message's JSON that also says where it has which file. It is still valid for Pydantic AI."""
    return f"{BEFORE_PLACES}{json.dumps(places)},{message_json[1:]}" if places else message_json


def places_in(message_json: str) -> list[Place]:
    """What `with_places` put into a message's JSON."""
    # Pydantic AI begins a message with its own first field, whatever is in it.
    if not message_json.startswith(BEFORE_PLACES):
        return []
    places, _ = json.JSONDecoder().raw_decode(message_json, len(BEFORE_PLACES))
    return places


_At = tuple[str | int, ...]
_Change = Callable[[_At, BinaryContent], BinaryContent | str]


def _changed(message: ModelMessage, change: _Change) -> ModelMessage:
    """A copy of the message in which each binary content is replaced, as far as it must be one."""
    changed = copy(message)
    changed.parts = [_changed_part(part, index, change) for index, part in enumerate(message.parts)]  # pyright: ignore[reportAttributeAccessIssue]  # each part stays of its kind
    return changed


def _changed_part(part: Any, index: int, change: _Change) -> Any:
    field = _field(part)
    if field is None or isinstance(getattr(part, field), str):
        return part
    changed = copy(part)
    setattr(changed, field, _changed_value(getattr(part, field), (index, field), change))
    return changed


def _field(part: Any) -> str | None:
    """Which field of a part can hold binary content, if any."""
    if isinstance(part, SpeechPart):
        return "audio"
    return "content" if isinstance(part, UserPromptPart | FilePart | BaseToolReturnPart) else None


def _changed_value(value: object, at: _At, change: _Change, within: frozenset[int] = frozenset()) -> object:
    if isinstance(value, BinaryContent):
        return change(at, value)
    # What holds itself is left for the serializer to refuse. An object of a tool's own class is left alone, with what
    # is in it: only its class knows how it becomes JSON.
    if len(at) < DEEPEST and id(value) not in within:
        within |= {id(value)}
        if isinstance(value, list | tuple):
            items = cast("Sequence[object]", value)
            return [_changed_value(item, (*at, index), change, within) for index, item in enumerate(items)]
        if isinstance(value, dict):
            fields = cast("dict[object, object]", value)
            return {key: _changed_value(item, (*at, str(key)), change, within) for key, item in fields.items()}
    return value


def _emptied(content: BinaryContent) -> BinaryContent:
    emptied = copy(content)
    emptied._identifier = content.identifier  # pyright: ignore[reportPrivateUsage]  # made of the data unless it is given
    emptied.data = b""
    return emptied


def _content_at(message: ModelMessage, at: Sequence[str | int]) -> BinaryContent:
    try:
        index, field, *inside = at
        found: Any = getattr(message.parts[cast("int", index)], cast("str", field))
        for step in inside:
            found = found[step]
    except (AttributeError, TypeError, ValueError) as error:
        raise LookupError(f"The message has nothing at {at}.") from error
    if not isinstance(found, BinaryContent) or found.data:
        raise LookupError(f"The message has no empty binary content at {at}.")
    return found


_known_ids: dict[int, str] = {}


def _known_id(content: BinaryContent) -> str:
    """The id of whole content's data, found once: a page asks ten times a second while a reply is written."""
    key = id(content)
    if key not in _known_ids:
        _known_ids[key] = hashlib.sha256(content.data).hexdigest()
        weakref.finalize(content, _known_ids.pop, key, None).atexit = False
    return _known_ids[key]


def portable(text: str) -> str:
    """A text as the name of a file that every system takes and no path hides in; empty when nothing is left of it."""
    name = "".join(filter(str.isprintable, text)).translate(_FORBIDDEN_IN_NAMES).rstrip(". ").lstrip(". -~")
    return f"_{name}" if _DEVICE.match(name) else name


def _name(content: BinaryContent) -> str:
    """What a file is called: its identifier, fit for a file's name, with an ending that tells its type."""
    name = portable(content.identifier)[-LONGEST_NAME:].encode()[-LONGEST_NAME_BYTES:].decode(errors="ignore")
    name = portable(name) or "file"
    if "." not in name:
        name += mimetypes.guess_extension(content.media_type, strict=False) or _ending(content)
    return name


def _ending(content: BinaryContent) -> str:
    try:
        return f".{content.format}"
    except ValueError:  # A kind that no model takes.
        return ""
