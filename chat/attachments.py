"""What a person sent with a message: read from where Gradio keeps uploads, checked, and made a prompt.

The files come before the text, as in the message box and as providers advise: a question follows what it is about. A
text file becomes a part of the prompt, with its name: every model can read it there, also one that is chosen later.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from pydantic_ai import ModelMessage, ModelRequest
from pydantic_ai.messages import BinaryContent, TextContent, UserContent, UserPromptPart
from pydantic_ai.models import Model

from chat.abilities import TEXT, accepted_media
from chat.file_render import is_text_file, text_file
from chat.files import LONGEST_NAME
from chat.identity import Owner
from chat.kinds import kinds_text
from chat.markup import size_text
from chat.render import LONGEST_PROMPT, PromptRefused, prompt_from
from chat.sniff import media_type_of, text_of


@dataclass(frozen=True)
class SentFile:
    """An uploaded file: where the page says that it is, and what it is called."""

    path: str
    name: str


@dataclass(frozen=True)
class Sent:
    """What a page, or a program, sent as a message."""

    text: str
    files: Sequence[SentFile] = ()

    @classmethod
    def from_page(cls, value: object) -> "Sent":
        """A text, or a dict with `text` and `files`; anything else is an empty message."""
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, dict):
            return cls("")
        sent = cast("dict[object, object]", value)
        text, files = sent.get("text"), sent.get("files")
        listed = cast("list[object]", files) if isinstance(files, list) else []
        return cls(text if isinstance(text, str) else "", [_file_from(file) for file in listed])

    @property
    def title(self) -> str:
        """What the message is about, in a line: its text, or the names of its files."""
        return self.text if self.text.strip() else ", ".join(file.name for file in self.files)


@dataclass(frozen=True)
class Limits:
    """What may be attached: files of at most `size` bytes, `count` of them, of the media types in `accepted`.

    `folder` is where the uploads are; nothing is read elsewhere, and of what is there, only what `uploaded` says to be
    the sender's.
    """

    folder: Path
    size: int
    count: int
    accepted: frozenset[str]
    uploaded: Callable[[str], bool]


@dataclass(frozen=True)
class Attaching:
    """What the chat takes as attachments of anybody: see `Limits`."""

    folder: Path
    size: int
    count: int
    uploaded: Callable[[Owner, str], bool]

    def limits(self, owner: Owner, model: Model | None) -> Limits:
        """What this owner can attach to a message that this model answers."""
        return Limits(self.folder, self.size, self.count, accepted_media(model), partial(self.uploaded, owner))


async def prompt_of(sent: Sent, limits: Limits | None) -> str | list[UserContent]:
    """A message as a prompt: its files as they were shown, then its text. Without limits no files are taken.

    Raises:
        PromptRefused: If it is blank, or a file is too large, empty, unreadable or of a kind that isn't accepted.
    """
    text = prompt_from(sent.text) if sent.text.strip() or not sent.files else ""
    if limits is None or not sent.files:
        return text
    if len(sent.files) > limits.count:
        raise PromptRefused(f"These are {len(sent.files)} files; at most {limits.count} can be sent at once.")
    contents = await asyncio.to_thread(lambda: [_content(file, limits) for file in sent.files])
    _check_length(text, contents)
    return [*contents, text] if text else list(contents)


def edited_prompt(message: ModelMessage, text: str) -> ModelRequest:
    """A request with a prompt, saying `text` instead of what a person typed there. Its files stay, before the text.

    Raises:
        PromptRefused: If it is blank and has no files, is too long, or can't be stored.
    """
    prompts = [part for part in message.parts if isinstance(part, UserPromptPart)]
    if not isinstance(message, ModelRequest) or not prompts:
        raise PromptRefused("What was spoken can't be edited. Write a message instead.")
    contents = attached(message)
    text = prompt_from(text) if text.strip() or not contents else ""
    _check_length(text, contents)
    said = UserPromptPart([*contents, text] if text else contents) if contents else UserPromptPart(text)
    others = [part for part in message.parts if not isinstance(part, UserPromptPart)]
    return ModelRequest(parts=[*others, said], instructions=message.instructions)


def attached(message: ModelMessage) -> list[UserContent]:
    """What the prompts in a message hold beside what a person typed."""
    prompts = [part.content for part in message.parts if isinstance(part, UserPromptPart)]
    contents = [item for content in prompts if not isinstance(content, str) for item in content]
    return [item for item in contents if not isinstance(item, str | TextContent) or is_text_file(item)]


def _file_from(value: object) -> SentFile:
    sent = cast("dict[object, object]", value) if isinstance(value, dict) else {}
    path = sent.get("path")
    path = path if isinstance(path, str) else ""
    name = sent.get("orig_name")
    return SentFile(path, _name(name if isinstance(name, str) and name else path))


def _name(sent: str) -> str:
    """A file's name: without folders, on one line, and not longer than one can read."""
    return "".join(filter(str.isprintable, sent.replace("\\", "/").rpartition("/")[2]))[-LONGEST_NAME:] or "file"


def _content(file: SentFile, limits: Limits) -> BinaryContent | TextContent:
    data = _read(file, limits)
    kind = media_type_of(data, file.name)
    if kind is None and (text := text_of(data, file.name)) is not None and TEXT in limits.accepted:
        return text_file(file.name, text)
    if kind is None or kind not in limits.accepted:
        what = f"is of the kind {kind}, which" if kind else "is of a kind that"
        raise PromptRefused(f"“{file.name}” {what} can't be sent here. Attach {kinds_text(limits.accepted)}.")
    return BinaryContent(data, media_type=kind, identifier=file.name)


def _read(file: SentFile, limits: Limits) -> bytes:
    """The bytes of an upload. A client can name any path, also one that leads out of the folder by a link."""
    folder = os.path.realpath(limits.folder)
    try:
        path = Path(os.path.realpath(file.path, strict=True))
        # Gradio puts each upload into a folder named by its hash.
        is_upload = path == Path(folder, *Path(file.path).parts[-2:]) and limits.uploaded(file.path)
        if not is_upload or not path.is_file():
            raise FileNotFoundError(path)
        if (size := path.stat().st_size) > limits.size:
            most = size_text(limits.size)
            raise PromptRefused(f"“{file.name}” has {size_text(size)}; a file may have at most {most}.")
        data = path.read_bytes()
    except PromptRefused:
        raise
    except (OSError, ValueError) as error:  # A path with a NUL is no value for one.
        raise PromptRefused(f"“{file.name}” is no longer here. Remove it and attach it again.") from error
    if not data:
        raise PromptRefused(f"“{file.name}” is empty.")
    return data


def _check_length(text: str, contents: Iterable[UserContent]) -> None:
    length = len(text) + sum(len(content.content) for content in contents if isinstance(content, TextContent))
    if length > LONGEST_PROMPT:
        raise PromptRefused(
            f"The text and the text files have {length:,} characters; at most {LONGEST_PROMPT:,} can be sent."
        )
