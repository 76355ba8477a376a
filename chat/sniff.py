"""What a file is, by its bytes: a name and what a browser says of a file can be anything."""

import mimetypes
import zipfile
from io import BytesIO
from pathlib import PurePath

OFFICE = "application/vnd.openxmlformats-officedocument"

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"FLV\x01", "video/x-flv"),
    (b"\0\0\x01\xba", "video/mpeg"),
    (b"\0\0\x01\xb3", "video/mpeg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
)
"""What files of a type begin with."""

_CONTAINERS = {
    (b"RIFF", b"WEBP"): "image/webp",
    (b"RIFF", b"WAVE"): "audio/wav",
    (b"RIFF", b"AVI "): "video/x-msvideo",
    (b"FORM", b"AIFF"): "audio/aiff",
    (b"FORM", b"AIFC"): "audio/aiff",
}
"""Types by the first four bytes and the four after the size."""

_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heic",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
    b"3gp4": "video/3gpp",
    b"3gp5": "video/3gpp",
    b"3gp6": "video/3gpp",
}
"""Types by the brand of an ISO media file; any other one is MP4."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_NO_TEXT = frozenset(range(32)) - {8, 9, 10, 11, 12, 13, 27}
"""Control characters that aren't in texts."""


def media_type_of(data: bytes, name: str) -> str | None:
    """The media type of a file that isn't text, or `None` when its kind isn't known.

    The name decides only between the kinds of old Office files, which begin alike.
    """
    start = data[:12]
    known = next((kind for signature, kind in _STARTS if start.startswith(signature)), None)
    known = known or _CONTAINERS.get((start[:4], start[8:12]))
    if known:
        return known
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], "video/mp4")
    if start.startswith(b"\x1aE\xdf\xa3"):
        return "video/webm" if b"webm" in data[:64] else "video/x-matroska"
    if start.startswith(_OLE):
        return "application/vnd.ms-excel" if name.lower().endswith(".xls") else "application/msword"
    return _zipped(data) if start.startswith(b"PK\x03\x04") else None


def text_of(data: bytes, name: str) -> str | None:
    """The text of a text file, or `None` when it is none. An encoding other than Unicode is believed by the name."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _decoded(data, "utf-16")
    if not _NO_TEXT.isdisjoint(data):
        return None
    text = _decoded(data, "utf-8-sig")
    return _decoded(data, "cp1252") if text is None and _is_text_name(name) else text


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_text_name(name: str) -> bool:
    guessed, _ = mimetypes.guess_type(PurePath(name).name)
    return bool(guessed) and guessed.startswith("text/")


def _zipped(data: bytes) -> str | None:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return None
    if "word/document.xml" in names:
        return f"{OFFICE}.wordprocessingml.document"
    return f"{OFFICE}.spreadsheetml.sheet" if "xl/workbook.xml" in names else None
