"""The kinds of files that can be attached: how a sentence names them, and how a file chooser picks them."""

from collections.abc import Collection

from chat.abilities import TEXT
from chat.sniff import OFFICE

_KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "image/png": ("pictures", "PNG", (".png",)),
    "image/jpeg": ("pictures", "JPEG", (".jpg", ".jpeg")),
    "image/gif": ("pictures", "GIF", (".gif",)),
    "image/webp": ("pictures", "WebP", (".webp",)),
    "application/pdf": ("documents", "PDF", (".pdf",)),
    f"{OFFICE}.wordprocessingml.document": ("documents", "Word", (".docx",)),
    "application/msword": ("documents", "Word", (".doc",)),
    f"{OFFICE}.spreadsheetml.sheet": ("documents", "Excel", (".xlsx",)),
    "application/vnd.ms-excel": ("documents", "Excel", (".xls",)),
    "audio/wav": ("sound", "WAV", (".wav",)),
    "audio/mpeg": ("sound", "MP3", (".mp3",)),
    "audio/ogg": ("sound", "Ogg", (".ogg", ".oga", ".opus")),
    "audio/flac": ("sound", "FLAC", (".flac",)),
    "audio/aiff": ("sound", "AIFF", (".aif", ".aiff")),
    "audio/aac": ("sound", "AAC", (".aac",)),
    "video/mp4": ("video", "MP4", (".mp4", ".m4v")),
    "video/webm": ("video", "WebM", (".webm",)),
    "video/quicktime": ("video", "MOV", (".mov",)),
    "video/x-matroska": ("video", "MKV", (".mkv",)),
    "video/mpeg": ("video", "MPEG", (".mpeg", ".mpg")),
    "video/x-flv": ("video", "FLV", (".flv",)),
    "video/x-ms-wmv": ("video", "WMV", (".wmv",)),
    "video/3gpp": ("video", "3GP", (".3gp",)),
}
"""By media type: the group that it belongs to, what it is called there, and how the names of such files end."""

_TEXT_ENDINGS = (
    "txt md rst csv tsv json jsonl ndjson yaml yml toml ini cfg conf env log xml svg html htm css scss tex bib srt vtt "
    "py pyi ipynb js mjs cjs jsx ts tsx vue svelte java kt scala groovy c h cpp hpp cc cs go rs rb php pl lua r jl "
    "swift m mm dart ex exs erl hs clj ml fs sql graphql proto sh bash zsh fish ps1 bat diff patch tf gradle"
)
"""How the names of text files end that browsers don't always know as such."""


def kinds_text(accepted: Collection[str]) -> str:
    """The accepted kinds, for a sentence: `pictures (PNG, JPEG), documents (PDF) or text`."""
    groups: dict[str, dict[str, None]] = {}
    for kind, (group, name, _) in _KINDS.items():
        if kind in accepted:
            groups.setdefault(group, {})[name] = None
    named = [f"{group} ({', '.join(names)})" for group, names in groups.items()]
    named += ["text"] if TEXT in accepted else []
    return " or ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def endings(accepted: Collection[str]) -> list[str]:
    """What a file chooser offers, as Gradio's `file_types`."""
    known = [ending for kind, (_, _, names) in _KINDS.items() if kind in accepted for ending in names]
    return [*known, "text", *(f".{ending}" for ending in _TEXT_ENDINGS.split())] if TEXT in accepted else known


def chooser_kinds(accepted: Collection[str]) -> list[str]:
    """The same as a browser's file chooser takes it."""
    return [TEXT if ending == "text" else ending for ending in endings(accepted)]


def takes_sound(accepted: Collection[str]) -> bool:
    """Whether a voice recording can be sent: browsers make WAV of it."""
    return "audio/wav" in accepted
