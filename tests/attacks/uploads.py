"""Files that are something else than they say, and names that lead elsewhere: attached, exported, shared, imported.

What comes back is a download without a type, or a picture, sound, video or PDF that may run nothing; its name is one
that any system takes for a file's, also in a zip.
"""

import io
import json
import re
import zipfile
from collections.abc import AsyncIterator, Iterable
from urllib.parse import unquote

import httpx

from chat.file_route import SHOWN_TYPES
from tests.attacks.stage import Case, Stage, fault

SCRIPT = b"<script>parent.ran=1</script>"
CONTENTS: dict[str, bytes] = {
    "HTML": b"<!doctype html>" + SCRIPT,
    "HTML after a mark of UTF-16": b"\xff\xfe" + ("<html>" + SCRIPT.decode()).encode("utf-16-le"),
    "HTML in UTF-7": b"+ADw-script+AD4-parent.ran=1+ADw-/script+AD4-",
    "SVG with a script": b'<svg xmlns="http://www.w3.org/2000/svg"><script>parent.ran=1</script></svg>',
    "XML with a style sheet": b'<?xml version="1.0"?><?xml-stylesheet href="javascript:1"?><x/>',
    "GIF and JavaScript": b"GIF89a/*" + bytes(20) + b"*/=1;parent.ran=1//",
    "GIF and HTML": b"GIF89a" + bytes(20) + SCRIPT,
    "PNG and HTML": b"\x89PNG\r\n\x1a\n" + bytes(20) + SCRIPT,
    "JPEG and HTML": b"\xff\xd8\xff\xe0" + SCRIPT,
    "PDF and HTML": b"%PDF-1.4\n" + SCRIPT,
    "PDF with JavaScript": b"%PDF-1.4\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj",
    "MP3 and HTML": b"ID3" + SCRIPT,
    "a program": b"MZ\x90\x00\x03" + bytes(30) + SCRIPT,
    "a zip": b"PK\x03\x04" + bytes(30) + SCRIPT,
    "a page with its parts": b"MIME-Version: 1.0\nContent-Type: text/html\n\n" + SCRIPT,
}
TYPES = ("text/html", "image/svg+xml", "image/png", "application/pdf", "application/xhtml+xml", "text/html x", "*/*")
NAMES = (
    "../../up.png", "..\\..\\up.png", "/etc/passwd.png", "C:\\up.png", "a\x00b.png", "a\u202egnp.exe.png",
    "x" * 300 + ".png", "\u00e9" * 200 + ".png", "\U0001f600" * 150, "-rf.png", ".env", "..", ".", "CON", "nul.png",
    "COM1.txt.png", "a\r\nset-cookie: x=1.png", 'a"; filename="b.html', "%2e%2e%2fup.png", "up.png/../../up", " .png",
    "x.html", "x.svg", "desktop.ini", "~/.bashrc", "a.png:stream", "<img src=x onerror=alert(1)>.png", "a.png. . .",
    "\u2028.png", "LPT9 .png",
)  # fmt: skip
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(16)
EACH = 10
"""Files in a message."""

_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)\s*(\.|$)", re.IGNORECASE)


async def cases(stage: Stage) -> AsyncIterator[Case]:
    """By Ben, and what anybody gets of it by a link."""
    sent = {f"{name} {number}": data + b"%d" % number for number, (name, data) in enumerate(CONTENTS.items())}
    uploads: list[dict[str, object]] = []
    for name, data in sent.items():
        for kind in TYPES:
            path, answer = await _uploaded(stage, f"{name}.png".replace(" ", "-"), data, kind)
            yield Case(f"{name} as {kind!r}, before it is sent", _wrong(answer, kept=False))
        uploads.append({"path": path, "orig_name": f"{name}.html", "meta": {"_type": "gradio.FileData"}})
    for number, name in enumerate(NAMES):
        path, answer = await _uploaded(stage, name, PICTURE + b"%d" % number, "image/png")
        yield Case(f"the name {name[:40]!r}, before it is sent", _wrong(answer, kept=False))
        if not path:  # Refused: the name is sent for another upload.
            path, _ = await _uploaded(stage, "plain.png", PICTURE + b"%d" % number, "image/png")
        uploads.append({"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}})
    conversation = await _sent(stage, uploads)
    async for case in _got_back(stage, "sent", conversation):
        yield case
    exported = (await stage.ben.http.get(f"/parley/export/{conversation}?as=json")).json()
    renamed = json.dumps(_renamed(exported, iter(NAMES * 10))).replace(conversation, "imported")
    answer = await stage.ben.http.post("/parley/import", content=renamed)
    made = answer.json().get("conversations") or [""]
    yield Case("hostile names are imported as names", "" if made[0] else answer.text)
    async for case in _got_back(stage, "imported", made[0]):
        yield case
    async with stage.ben.http.stream("GET", "/parley/export") as zipped:
        async for case in _unpacked(await zipped.aread(), "everything, as a zip"):
            yield case


async def _uploaded(stage: Stage, name: str, data: bytes, kind: str) -> tuple[str, httpx.Response]:
    """Where Gradio puts an upload, and how it serves it."""
    named = name.encode("utf-8", "replace").replace(b'"', b"%22").replace(b"\r\n", b"%0D%0A").replace(b"\x00", b"%00")
    body = b"\r\n".join((b"--x", b'content-disposition: form-data; name="files"; filename="%s"' % named,
                         b"content-type: " + kind.encode(), b"", data, b"--x--", b""))  # fmt: skip
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await stage.ben.http.post("/gradio_api/upload", content=body, headers=headers)
    if answer.status_code != httpx.codes.OK:
        return "", answer
    [path] = answer.json()
    return path, await stage.ben.http.get(f"/gradio_api/file={path}")


async def _sent(stage: Stage, uploads: list[dict[str, object]]) -> str:
    """The conversation in which all of them were sent that can be."""
    status: dict[str, object] = {}
    for at in range(0, len(uploads), EACH):
        for part in (uploads[at : at + EACH],) if at >= len(CONTENTS) else ([each] for each in uploads[at : at + EACH]):
            painted = await stage.ben.call(stage.functions["chat"]["id"], [{"text": "echo", "files": part}, status])
            if found := re.search(r'"conversation": "([\w-]+)"', painted):
                status = {"conversation": found[1]}
    return str(status["conversation"])


async def _got_back(stage: Stage, how: str, conversation: str) -> AsyncIterator[Case]:
    """The files of a conversation, as its owner, a link and an export give them."""
    painted = await stage.ben.call(
        stage.functions["watch"]["id"], [{"conversation": conversation, "span": {"first": 0, "last": 10**6}}]
    )
    made = await stage.ben.http.post("/parley/shares", params={"conversation": conversation})
    link = made.json().get("path", "")
    shared = (await stage.stranger.http.get(f"/parley{link}")).text
    addresses = {f"/{found}" for found in re.findall(r"parley/files/[\w./%~-]+", painted)}
    addresses |= {f"/parley/shared/{found}" for found in re.findall(r"(?<=[\"'(])[\w-]{20,}/files/[\w./%~-]+", shared)}
    yield Case(f"{how}: there are files", "" if len(addresses) > 2 * EACH else f"{sorted(addresses)} {painted[-300:]}")
    for address in sorted(addresses):
        yield Case(f"{how}: {address[:60]}", _wrong(await stage.ben.http.get(address)))
    async with stage.ben.http.stream("GET", f"/parley/export/{conversation}?as=markdown") as answer:
        async for case in _unpacked(await answer.aread(), f"{how}, as a zip"):
            yield case


async def _unpacked(data: bytes, what: str) -> AsyncIterator[Case]:
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        names = zipped.namelist()
    apart = len(names) == len({*map(str.casefold, names)})
    yield Case(f"{what}: each of its files has a name of its own", "" if apart else str(names))
    for name in names:
        yield Case(f"{what}: {name[:60]!r}", _harmful(name.removeprefix("files/")))


def _renamed(value: object, names: Iterable[str]) -> object:
    """The same with hostile names for all that has one."""
    names = iter(names)
    if isinstance(value, dict):
        return {
            key: next(names) if key == "identifier" and isinstance(each, str) else _renamed(each, names)
            for key, each in value.items()
        }
    return [_renamed(each, names) for each in value] if isinstance(value, list) else value


def _wrong(answer: httpx.Response, *, kept: bool = True) -> str:
    """What a browser could run, or write elsewhere, of an answer. What is not kept yet has its uploader's own name."""
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        return fault(answer.text) if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR else answer.text[-300:]
    headers = answer.headers
    kind, disposition = headers.get("content-type", "").partition(";")[0], headers.get("content-disposition", "")
    policy = headers.get("content-security-policy", "")
    names = [unquote(name) for name in re.findall(r"filename\*=(?:utf-8|UTF-8)''([^;]*)", disposition)]
    names += re.findall(r'filename="([^"]*)"', disposition)
    wrong = {
        "sniffed": headers.get("x-content-type-options") != "nosniff",
        "runs scripts": "default-src 'none'" not in policy and "script-src 'none'" not in policy,
        "shown": not disposition.startswith("attachment") and kind not in SHOWN_TYPES,
        "another header": "set-cookie" in headers,
    }
    found = [what for what, is_wrong in wrong.items() if is_wrong]
    found += [harm for name in names if kept and (harm := _harmful(name))]
    return f"{', '.join(found)}: {dict(headers)}" if found else ""


def _harmful(name: str) -> str:
    """Why a system could take a name for something else than a file in the folder where it is put."""
    if re.search(r'[<>:"/\\|?*]', name) or not name.isprintable():
        return f"{name!r} has what no name has"
    if name.startswith((".", "-", " ", "~")) or name.endswith((".", " ")) or not name:
        return f"{name!r} is hidden, or an option"
    if len(name.encode()) > 255:
        return f"{name[:30]!r} is too long"
    return f"{name!r} is a device" if _DEVICE.match(name) else ""
