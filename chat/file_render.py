"""Files that people and models attach, in the open: media to look at or listen to, the others to download.

The page takes all of them from the chat's own address. A file elsewhere is a link: showing it would tell its server
who reads the conversation.
"""

from typing import Any

from pydantic_ai.messages import BinaryContent, FileUrl, UploadedFile

from chat.markup import code, inert, json_text, link, quoted, size_text
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
