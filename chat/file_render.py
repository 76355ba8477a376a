"""Files that people and models attach, in the open: media to look at or listen to, the others to download.

The page takes all of them from the chat's own address. A file elsewhere is a link: showing it would tell its server
who reads the conversation.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic_ai.messages import BinaryContent, FileUrl, TextContent, UploadedFile

from chat.markup import code, details, fenced, inert, json_text, link, quoted, size_text
from chat.shown import FileLink, Place


def file(item: Any, place: Place) -> str:
    """A file, whatever kind of content it is."""
    if isinstance(item, BinaryContent):
        found = place.showing.files(place.entry_id, item)
        return _unavailable(item, place) if found is None else _media(item, found)
    if isinstance(item, FileUrl):
        return link(item.url)
    if isinstance(item, UploadedFile):
        return f"File {inert(item.file_id)} at {inert(item.provider_name)}"
    return code(json_text(item), "json")


def text_file(name: str, words: str) -> TextContent:
    """A text file as a part of a prompt: its name, and the text to the character, in a fence."""
    language = re.search(r"\.([A-Za-z0-9]+)$", name)
    block = fenced(words, language[1].lower() if language else "text")
    before = f"{name}\n\n"
    at = len(before) + block.index("\n") + 1
    return TextContent(f"{before}{block}", metadata={"file": name, "at": at, "length": len(words)})


def is_text_file(item: object) -> bool:
    """Whether a piece of a prompt is a text file that `text_file` made."""
    return isinstance(item, TextContent) and _known_text(item) is not None


def text_in_file(item: TextContent) -> tuple[str, str]:
    """The name of a text file that `text_file` made, and what is in it; no name and all of it for other text."""
    return _known_text(item) or ("", item.content)


def shown_text_file(item: TextContent) -> str:
    """A text file in a prompt: its name and size, and on demand what is in it."""
    name, words = text_in_file(item)
    return details(f"{name} · {size_text(len(words.encode(errors='replace')))}", code(words, "text"))


def is_file(item: object) -> bool:
    """Whether a tool's result, or a piece of it, is a file."""
    return isinstance(item, BinaryContent | FileUrl | UploadedFile)


def _media(item: BinaryContent, found: FileLink) -> str:
    url, name = quoted(found.url), quoted(found.name)
    download = f"<a href={url} download={name}>{inert(found.name)}</a> · {size_text(found.size)}"
    if item.is_image:
        return f'<a href={url}><img src={url} alt={name} loading="lazy"></a>'
    if item.is_audio:
        return f'<audio src={url} controls preload="none"></audio>\n\n{download}'
    if item.is_video:
        return f'<video src={url} controls preload="metadata"></video>\n\n{download}'
    return download


def _unavailable(item: BinaryContent, place: Place) -> str:
    reason = "shown once the reply is saved" if place.live else "not available here"
    return f"A file ({inert(item.media_type)}) · *{reason}*"


def _known_text(item: TextContent) -> tuple[str, str] | None:
    metadata = cast("object", item.metadata)
    if not isinstance(metadata, Mapping):
        return None
    known = cast("Mapping[str, object]", metadata)
    name, at, length = known.get("file"), known.get("at"), known.get("length")
    if not (isinstance(name, str) and isinstance(at, int) and isinstance(length, int)):
        return None
    return name, item.content[at : at + length]
