"""A conversation as a Markdown file that people read: what is folded in the chat is folded there too."""

from collections.abc import Callable, Iterable, Iterator
from html import escape

from pydantic_ai.messages import BinaryContent

from chat.files import file_of
from chat.markup import fenced, inert, size_text
from chat.transcript import Attached, Detail, Folded, Piece, Speaker

HEADINGS: dict[Speaker, str] = {"person": "You", "assistant": "Assistant"}


def markdown(pieces: Iterable[Piece], path_of: Callable[[BinaryContent], str | None], heading: bool = True) -> str:
    """Pieces of a transcript as Markdown.

    Args:
        pieces: What is told, in order.
        path_of: Where a file lies, seen from this one; `None` when it is nowhere.
        heading: Whether it is said who speaks.
    """
    return "\n\n".join(_blocks(pieces, path_of, heading))


def _blocks(pieces: Iterable[Piece], path_of: Callable[[BinaryContent], str | None], heading: bool) -> Iterator[str]:
    speaker: Speaker | None = None
    for piece in pieces:
        if heading and piece.speaker != speaker:
            speaker = piece.speaker
            yield f"## {HEADINGS[speaker]}"
        if isinstance(piece, Folded):
            inside = [_detail(detail) for detail in piece.details]
            if piece.inside:
                inside.append(markdown(piece.inside, path_of))
            body = "\n\n".join(inside) or "*Nothing.*"
            yield f"<details><summary>{escape(' '.join(piece.title.split()))}</summary>\n\n{body}\n\n</details>"
        elif isinstance(piece, Attached):
            yield _file(piece.content, path_of(piece.content))
        else:
            yield piece.markdown


def _detail(detail: Detail) -> str:
    body = detail.text if detail.language is None else fenced(detail.text, detail.language)
    return f"**{detail.label}**\n\n{body}" if detail.label else body


def _file(content: BinaryContent, path: str | None) -> str:
    file = file_of(content)
    if file is None or path is None:
        return f"A file ({inert(content.media_type)})"
    link = f"[{inert(file.name)}](<{path}>)"
    return f"!{link}" if content.is_image else f"{link} · {size_text(file.size)}"
