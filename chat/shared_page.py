"""A shared conversation as a page of its own: HTML without a script, which loads nothing but its own files.

What people, models and tools wrote is Markdown without HTML here. Images of other sites are links: to load one would
tell its server who reads.
"""

import base64
import hashlib
from collections.abc import Callable, MutableMapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from pydantic_ai.messages import BinaryContent

from chat.files import StoredFile, file_of
from chat.markup import size_text
from chat.shares import SharedPage
from chat.transcript import Attached, Detail, Folded, Piece, Said

MOST_MARKDOWN = 400_000
"""Characters of a page that are set as Markdown: what a machine does in a second. What is more is shown as it is."""

_STYLE = (Path(__file__).parent / "shared_page.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src 'self'; "
    "media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",  # The page's address is what opens it.
    "x-robots-tag": "noindex, nofollow, noarchive",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",  # Revoked is revoked.
}

FileAddress = Callable[[str, StoredFile], str]
"""Where a page gets a file of an entry, relative to its own address."""


def shared_page(page: SharedPage, name: str, address_of: FileAddress) -> str:
    """The page.

    Args:
        page: What it shows.
        name: The name of the chat.
        address_of: Where it gets a file.
    """
    body = _Body(address_of)
    title, date = escape(page.title), f"{page.created_at:%Y-%m-%d}"
    links = [
        f'<a href="?page={number}" rel="{rel}">{label}</a>'
        for number, rel, label in ((page.earlier, "prev", "Earlier"), (page.later, "next", "Later"))
        if number is not None
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow, noarchive">
<meta name="color-scheme" content="light dark">
<title>{title} · {escape(name)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1 dir="auto">{title}</h1>
<p>Shared from {escape(name)} as it was on <time datetime="{date}">{date}</time></p></header>
<main>{body.turns(page.pieces)}</main>
{f"<nav>{' '.join(links)}</nav>" if links else ""}
</body>
</html>
"""


def missing_page(name: str) -> str:
    """The page for a link that shows nothing, whatever the reason is."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow, noarchive">
<meta name="color-scheme" content="light dark">
<title>Nothing here · {escape(name)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main><header><h1>Nothing is shared here</h1>
<p>The link may be incomplete, or whoever shared it has revoked it.</p></header></main>
</body>
</html>
"""


class _Body:
    def __init__(self, address_of: FileAddress) -> None:
        self._address_of = address_of
        self._left = MOST_MARKDOWN

    def turns(self, pieces: Sequence[Piece]) -> str:
        blocks: list[str] = []
        speaker = None
        for piece in pieces:
            if piece.speaker != speaker:
                if speaker is not None:
                    blocks.append("</section>")
                speaker = piece.speaker
                label = "Person" if speaker == "person" else "Assistant"
                blocks.append(f'<section class="{speaker}" aria-label="{label}" dir="auto">')
            blocks.append(self._piece(piece))
        return "\n".join([*blocks, "</section>"] if speaker else blocks)

    def _piece(self, piece: Piece) -> str:
        if isinstance(piece, Said):
            return self._markdown(piece.markdown)
        if isinstance(piece, Attached):
            return self._file(piece)
        return self._folded(piece)

    def _folded(self, piece: Folded) -> str:
        inside = "\n".join(map(self._detail, piece.details)) or "<p><em>Nothing.</em></p>"
        if piece.inside:
            inside += f'<div class="inside">{self.turns(piece.inside)}</div>'
        return f"<details><summary>{escape(piece.title)}</summary>\n{inside}</details>"

    def _detail(self, detail: Detail) -> str:
        label = f"<p><small>{escape(detail.label)}</small></p>" if detail.label else ""
        body = self._markdown(detail.text) if detail.language is None else _plain(detail.text)
        return label + body

    def _markdown(self, words: str) -> str:
        self._left -= len(words)
        return _plain(words) if self._left < 0 else _renderer().render(words)

    def _file(self, piece: Attached) -> str:
        file = None if piece.content.data else file_of(piece.content)
        if file is None:
            return f"<p>A file ({escape(piece.content.media_type)})</p>"
        address, name = escape(self._address_of(piece.entry_id, file)), escape(file.name)
        link = f'<a href="{address}" download="{name}">{name}</a> · {size_text(file.size)}'
        return _media(piece.content, address, name) or f"<p>{link}</p>"


def _media(content: BinaryContent, address: str, name: str) -> str | None:
    if content.is_image:
        return f'<p><a href="{address}"><img src="{address}" alt="{name}" loading="lazy"></a></p>'
    if content.is_audio:
        return f'<p><audio src="{address}" controls preload="none"></audio></p>'
    if content.is_video:
        return f'<p><video src="{address}" controls preload="metadata"></video></p>'
    return None


def _plain(words: str) -> str:
    return f"<pre>{escape(words)}</pre>"


@cache
def _renderer() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    made.add_render_rule("image", _image)
    made.add_render_rule("link_open", _link_open)
    for name in ("th_open", "td_open"):
        made.add_render_rule(name, _cell_open)
    for name in ("heading_open", "heading_close"):
        made.add_render_rule(name, _heading)
    return made


_Tokens = Sequence[Token]
_Env = MutableMapping[str, Any]


def _image(renderer: RendererHTML, tokens: _Tokens, index: int, options: OptionsDict, env: _Env) -> str:
    token = tokens[index]
    address, words = str(token.attrGet("src") or ""), escape(token.content) or "image"
    if urlsplit(address).scheme not in ("http", "https"):
        return words
    return f'<a href="{escape(address)}" rel="noopener noreferrer nofollow">{words}</a>'


def _link_open(renderer: RendererHTML, tokens: _Tokens, index: int, options: OptionsDict, env: _Env) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return renderer.renderToken(tokens, index, options, env)


def _cell_open(renderer: RendererHTML, tokens: _Tokens, index: int, options: OptionsDict, env: _Env) -> str:
    """A cell is aligned by a class: the page's policy allows no styles but its own."""
    token = tokens[index]
    align = str(token.attrs.pop("style", "")).removeprefix("text-align:")
    if align:
        token.attrSet("class", align)
    return renderer.renderToken(tokens, index, options, env)


def _heading(renderer: RendererHTML, tokens: _Tokens, index: int, options: OptionsDict, env: _Env) -> str:
    """A heading in a message is below the page's own."""
    token = tokens[index]
    token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    return renderer.renderToken(tokens, index, options, env)
