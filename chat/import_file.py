"""Files that somebody wants to import, read and checked whole: anything can be in them.

What comes out was written by whoever made the file. Messages are cleaned as Pydantic AI cleans those of a client that
it doesn't trust (`sanitize_messages`): no system prompts or instructions, nothing that has a server fetch an address or
a provider's file, no state that a provider holds; and no call is waiting to be run.
"""

import hashlib
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import IO, Any, cast

from pydantic import ValidationError
from pydantic_ai import ModelMessage, ModelResponse, RunUsage
from pydantic_ai.messages import BaseToolCallPart, TextContent, UserPromptPart, sanitize_messages
from pydantic_core import PydanticSerializationError, from_json, to_json

from chat.archive import (
    FILES_FOLDER,
    FORMAT,
    VERSION,
    ArchivedConversation,
    ArchivedEntry,
    ArchivedFeedback,
    ArchivedOutcome,
    ArchivedTiming,
)
from chat.choices import Choice
from chat.file_render import is_text_file
from chat.files import LONGEST_NAME, mark
from chat.files import Place as FilePlace
from chat.gradio_history import conversations_in, conversations_in_log, is_flagging_log
from chat.library import Place
from chat.render import prompt_text
from chat.store import messages_from_json
from chat.title_text import first_words

READ_BYTES = 1 << 20
"""Bytes that are read of a file at a time."""

LARGEST_TABLE = 20 << 20
"""Bytes of a zip's table of contents: about 200,000 members. All of it is read before anything else."""

MOST_VALUES = 5_000_000
"""Values in a JSON file, about: each of them takes far more memory than its text."""

PARLEY_FILES = "parley_files"

_FILE_NAME = re.compile(rf"{re.escape(FILES_FOLDER)}([0-9a-f]{{64}})(\.\w+)?")

CHOOSE = (
    "Choose a conversation that was exported as JSON, a zip of a whole Parley, or the history of a Gradio app "
    "(JSON, or its log.csv)."
)

DAMAGED = "This file is damaged or was not downloaded to its end. Download it again."


class ImportRefused(Exception):
    """A file that can't be imported. The message says why, and what to do. Nothing of it was stored."""


@dataclass(frozen=True)
class ReadEntry:
    """A message of a file: the id that it has there, and that of the one before it. Its files are in it."""

    id: str
    parent: str | None
    message: ModelMessage
    outcome: ArchivedOutcome | None = None
    timing: ArchivedTiming | None = None
    feedback: ArchivedFeedback | None = None


@dataclass(frozen=True)
class ReadConversation:
    """A conversation of a file, checked. Every entry comes after the one that it follows.

    `source` names what it is in the file: the same for the same conversation, also in another file.
    """

    id: str
    source: str
    tips: Sequence[str]
    title: str | None
    head: str | None
    branches: Sequence[str]
    usage: RunUsage
    choice: Choice
    forked_from: str | None
    forked_at: str | None
    updated_at: datetime
    place: Place
    entries: Sequence[ReadEntry]


def read_file(file: IO[bytes], largest: int) -> list[ReadConversation]:
    """The conversations in a file: a zip, JSON, or a CSV log of a Gradio app.

    Args:
        file: The file, at its beginning. It can be moved in.
        largest: Bytes that may be in it, unpacked.

    Raises:
        ImportRefused: If something in it is not as it should be.
    """
    budget = _Budget(largest)
    try:
        if file.read(4)[:2] == b"PK":
            return _read_zip(file, budget)
        file.seek(0)
        return _read_json(budget.read(file), _no_files)
    except RecursionError as error:
        raise ImportRefused("This file is nested too deeply to be read. Export it again.") from error


class _Budget:
    """Counts what is unpacked, whatever a file says of its size."""

    def __init__(self, largest: int) -> None:
        self._largest = self._left = largest

    def read(self, file: IO[bytes]) -> bytes:
        """All that is left of a file."""
        pieces: list[bytes] = []
        while piece := file.read(READ_BYTES):
            self._left -= len(piece)
            if self._left < 0:
                raise ImportRefused(too_large(self._largest))
            pieces.append(piece)
        return b"".join(pieces)


def too_large(largest: int) -> str:
    """What is said of a file with more than so many bytes in it."""
    return (
        f"There is more than {largest / 1_000_000:,.0f} MB in this file, and that is the most that is taken here. "
        "Import fewer conversations at a time, or have CHAT_MAX_IMPORT_MB raised."
    )


def _read_zip(file: IO[bytes], budget: _Budget) -> list[ReadConversation]:
    end = zipfile._EndRecData(file)  # pyright: ignore  # zipfile would read a table of contents of any size
    if end is None or not 0 <= end[5] <= LARGEST_TABLE:
        raise ImportRefused(DAMAGED if end is None else "There are too many files in this zip.")
    with _unpacking(), zipfile.ZipFile(file) as zipped:
        members = {info.filename: info for info in zipped.infolist()}
        if any(info.flag_bits & 1 for info in members.values()):
            raise ImportRefused("This zip is encrypted. Unpack it, and import what is in it.")
        found = {match[1]: name for name in members if (match := _FILE_NAME.fullmatch(name))}
        known: dict[str, bytes] = {}

        def read(name: str) -> bytes:
            info = members[name]
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ImportRefused("This zip is packed in a way that isn't read here. Pack it again, as a plain zip.")
            with zipped.open(info) as member:
                return budget.read(member)

        def file_data(file_id: str) -> bytes:
            if file_id not in found:
                raise ImportRefused("Files are missing in this zip. Import it as it was exported.")
            if file_id not in known:
                known[file_id] = read(found[file_id])
                if hashlib.sha256(known[file_id]).hexdigest() != file_id:
                    raise ImportRefused(DAMAGED)
            return known[file_id]

        names = [name for name in members if name.endswith(".json") and not _is_litter(name)]
        conversations = [each for name in names for each in _read_json(read(name), file_data)]
    if not conversations:
        raise ImportRefused(f"There is no conversation in this zip. {CHOOSE}")
    return conversations


@contextmanager
def _unpacking() -> Generator[None]:
    """Whatever the standard library says of a zip that isn't one, or of half of one."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        OSError,
        ValueError,
        OverflowError,
        RuntimeError,
    ) as error:
        if isinstance(error, RecursionError):
            raise
        raise ImportRefused(DAMAGED) from error


def _is_litter(name: str) -> bool:
    """What the Finder puts into each zip."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


_FileData = Callable[[str], bytes]


def _no_files(file_id: str) -> bytes:
    raise ImportRefused("This file is a part of a zip, and its files are missing. Import the whole zip.")


def _read_json(data: bytes, file_data: _FileData) -> list[ReadConversation]:
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MOST_VALUES:
        raise ImportRefused("There are too many values in this file. Import fewer conversations at a time.")
    try:
        value: object = from_json(data)
    except ValueError as error:
        return _read_text(data, error)
    if not isinstance(value, dict):
        return _read_gradio(lambda: conversations_in(value))
    fields = cast("dict[str, Any]", value)
    if fields.get("format") != FORMAT:
        raise ImportRefused(f"This JSON is no conversation of Parley. {CHOOSE}")
    version: object = fields.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ImportRefused(
            f"This conversation was exported by a newer version of Parley (format {version}, "
            f"this one reads {VERSION}). Update Parley, then import it."
        )
    try:
        conversation = ArchivedConversation.model_validate_json(to_json({**fields, "entries": None}))
        entries = [ArchivedEntry.model_validate(entry) for entry in _list(fields.get("entries"))]
        return [_checked(conversation, entries, file_data)]
    except (ValidationError, PydanticSerializationError) as error:
        raise ImportRefused(f"This conversation can't be read: {_reason(error)}. Export it again.") from error


def _read_text(data: bytes, error: ValueError) -> list[ReadConversation]:
    """What isn't JSON: a CSV log, or nothing that can be imported."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if is_flagging_log(text):
        return _read_gradio(lambda: conversations_in_log(text))
    if text.lstrip()[:1] in ("{", "["):
        raise ImportRefused(DAMAGED) from error
    raise ImportRefused(f"This is no file that can be imported. {CHOOSE}") from error


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ImportRefused(DAMAGED)
    return cast("list[Any]", value)


def _checked(
    archived: ArchivedConversation, entries: Sequence[ArchivedEntry], file_data: _FileData
) -> ReadConversation:
    _check_links(archived, entries)
    messages = _messages(entries, file_data)
    read: list[ReadEntry] = []
    stands_for: dict[str, str | None] = {}  # For an entry of which nothing is left stands the one before it.
    for entry in entries:
        parent = None if entry.parent is None else stands_for[entry.parent]
        message = messages.get(entry.id)
        stands_for[entry.id] = parent if message is None else entry.id
        if message is not None:
            read.append(ReadEntry(entry.id, parent, message, entry.outcome, entry.timing, entry.feedback))
    tips = [tip for tip in (*archived.branches, archived.head) if tip is not None]
    branches = [tip for tip in map(stands_for.get, archived.branches) if tip is not None]
    head = None if archived.head is None else stands_for[archived.head]
    return ReadConversation(
        archived.id,
        _source(archived.id, tips),
        tips,
        archived.title,
        head,
        list(dict.fromkeys(tip for tip in branches if tip != head)),
        archived.usage,
        Choice.model_validate(archived.choice),
        archived.forked_from,
        stands_for.get(archived.forked_at or ""),
        _not_later_than_now(archived.updated_at),
        archived.place,
        read,
    )


def _check_links(archived: ArchivedConversation, entries: Sequence[ArchivedEntry]) -> None:
    """Each entry follows one before it in the file, which leaves no circles, and is in a version."""
    parents: dict[str, str | None] = {}
    for entry in entries:
        if entry.id in parents:
            raise ImportRefused("A message is twice in this conversation. Export it again.")
        if entry.parent is not None and entry.parent not in parents:
            raise ImportRefused("A message in this conversation follows one that isn't before it. Export it again.")
        parents[entry.id] = entry.parent
    reached: set[str] = set()
    for tip in (*archived.branches, archived.head):
        if tip is not None and tip not in parents:
            raise ImportRefused("A version of this conversation ends in a message that is missing. Export it again.")
        entry_id = tip
        while entry_id is not None and entry_id not in reached:
            reached.add(entry_id)
            entry_id = parents[entry_id]
    if len(reached) < len(parents):
        raise ImportRefused("A message in this conversation is in no version of it. Export it again.")


def _messages(entries: Sequence[ArchivedEntry], file_data: _FileData) -> dict[str, ModelMessage]:
    """What may be stored of each entry's message, by its id; none where nothing may.

    The last come first: what is left at the end of a version is its end, too.
    """
    messages: dict[str, ModelMessage] = {}
    followed: set[str | None] = set()
    for entry in reversed(entries):
        message = _cleaned(_message(entry, file_data), ends=entry.id not in followed)
        if message is not None:
            messages[entry.id] = message
        if message is not None or entry.id in followed:
            followed.add(entry.parent)
    return messages


def _message(entry: ArchivedEntry, file_data: _FileData) -> ModelMessage:
    fields = dict(entry.message)
    places = [_place(value) for value in _list(fields.pop(PARLEY_FILES, []))]
    [message] = messages_from_json([to_json(fields).decode()])
    try:
        contents = mark(message, places)
    except (LookupError, RecursionError) as error:
        raise ImportRefused(DAMAGED) from error
    for content, place in zip(contents, places, strict=True):
        content.data = file_data(place["id"])
    return message


def _place(value: object) -> FilePlace:
    fields = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    at, file_id, size = fields.get("at"), fields.get("id"), fields.get("size")
    known = isinstance(at, list) and isinstance(file_id, str) and isinstance(size, int)
    if not known or not all(isinstance(step, str | int) for step in cast("list[object]", at)):
        raise ImportRefused(DAMAGED)
    return FilePlace(at=cast("list[str | int]", at), id=cast("str", file_id), size=cast("int", size))


def _cleaned(message: ModelMessage, *, ends: bool) -> ModelMessage | None:
    """What may be stored of a message; `None` for nothing. A call at the end of a version would wait to be run."""
    calls = [] if ends else [part.tool_call_id for part in message.parts if isinstance(part, BaseToolCallPart)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It says what it takes out, to programmers.
        cleaned = sanitize_messages([message], resolved_tool_call_ids=calls) if message.parts else [message]
    if not cleaned:
        return None
    if isinstance(cleaned[0], ModelResponse):
        return _without_provider_state(cleaned[0])
    _put_back_names(message, cleaned[0])
    return cleaned[0]


def _without_provider_state(response: ModelResponse) -> ModelResponse:
    """Without what names something that a provider keeps, which the chat's own key would open."""
    details = {name: value for name, value in (response.provider_details or {}).items() if not name.endswith("_id")}
    state = "interrupted" if response.state == "suspended" else response.state
    return replace(response, provider_response_id=None, provider_details=details or None, state=state)


def _put_back_names(original: ModelMessage, cleaned: ModelMessage) -> None:
    """Let a text file in a prompt have its name again: cleaning takes all that is noted of a text."""
    noted = [item.metadata for item in _texts(original)]
    for item, metadata in zip(_texts(cleaned), noted, strict=True):
        item.metadata = metadata
        if is_text_file(item):
            known = cast("Mapping[str, Any]", metadata)
            item.metadata = {"file": known["file"][:LONGEST_NAME], "at": known["at"], "length": known["length"]}
        else:
            item.metadata = None


def _texts(message: ModelMessage) -> list[TextContent]:
    prompts = [part for part in message.parts if isinstance(part, UserPromptPart) and not isinstance(part.content, str)]
    return [item for prompt in prompts for item in prompt.content if isinstance(item, TextContent)]


def _read_gradio(histories: Callable[[], list[list[ModelMessage]]]) -> list[ReadConversation]:
    try:
        found = [_from_gradio(messages) for messages in histories()]
    except ValueError as error:
        reason = _reason(error) if isinstance(error, ValidationError | PydanticSerializationError) else str(error)
        raise ImportRefused(f"This is no history of a Gradio app: {reason} {CHOOSE}") from error
    if not found:
        raise ImportRefused("There is no conversation in this file.")
    return found


def _from_gradio(messages: Sequence[ModelMessage]) -> ReadConversation:
    said = [(part.part_kind, getattr(part, "content", None)) for message in messages for part in message.parts]
    name = hashlib.sha256(json.dumps(said).encode(errors="surrogatepass")).hexdigest()
    entries = [
        ArchivedEntry(id=str(index), parent=str(index - 1) if index else None, message=_fields(message))
        for index, message in enumerate(messages)
    ]
    head = entries[-1].id
    prompts = (text for message in messages if (text := prompt_text(message)).strip())
    title = first_words(next(prompts, "")) or None
    archived = ArchivedConversation(id=name, title=title, head=head, updated_at=datetime.now(UTC))
    return _checked(archived, entries, _no_files)


def _fields(message: ModelMessage) -> dict[str, Any]:
    return from_json(to_json(message))


def _source(conversation_id: str, tips: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([conversation_id, *tips]).encode(errors="surrogatepass")).hexdigest()


def _not_later_than_now(moment: datetime) -> datetime:
    try:
        return min(moment.astimezone(UTC), datetime.now(UTC))
    except OverflowError as error:
        raise ImportRefused("This conversation has a date that doesn't exist. Export it again.") from error


def _reason(error: ValidationError | PydanticSerializationError) -> str:
    if isinstance(error, PydanticSerializationError):
        return "something in it has no JSON"
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step)[:50] for step in first["loc"][:6])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
