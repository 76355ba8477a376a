"""Ways to files of the server: every route that takes a path, asked with bytes that no client would put in order."""

import asyncio
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

from tests.attacks.stage import Case, Stage, fault, raw
from tests.browser import ROOT

ROUTES = (
    "/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/assets/", "/static/", "/svelte/", "/theme/",
    "/gradio_api/static/", "/gradio_api/custom_component/x/client/component/", "/parley/files/", "/parley/export/",
    "/parley/prompts/", "/parley/shared/", "/gradio_api/proxy=", "/gradio_api/stream/", "/", "/pwa_icon/",
)  # fmt: skip

FEW = 4
"""Files that are tried at the routes that serve none of a visitor's; at the first one all are."""


def _targets(stage: Stage) -> list[str]:
    database = str(stage.chat.database)
    return [
        database, f"{database}-wal", f"{database}-shm", f"{database}.lock", database.upper(),
        str(stage.chat.database.parent / ".env"), str(stage.chat.database.parent / "link"), str(ROOT / "app.py"),
        "/etc/passwd", "/ETC/passwd", "/proc/self/environ", "/proc/1/../self/environ", "/proc/self/cwd/app.py",
        "/proc/self/fd/3", "/dev/null/../../etc/passwd",
        "file:///etc/passwd", "http://127.0.0.1:1/", stage.hers.upload,
    ]  # fmt: skip


def _spellings(target: str) -> list[str]:
    up = "../" * 12 + target.lstrip("/")
    quoted = urllib.parse.quote
    return [
        target, "/" + target, "//" + target, target.lstrip("/"), up, "x/" + up,
        quoted(target, safe=""), quoted(quoted(target, safe=""), safe=""), quoted(up, safe=""),
        up.replace("../", "..%2f"), up.replace("../", "%2e%2e/"), up.replace("../", "..%5c"),
        up.replace("../", "....//"),
        up.replace("../", "..;/"), up.replace("../", "%c0%ae%c0%ae/"), up.replace("/", "\\"), "\\\\?\\" + target,
        target + "%00", target + "%00.png", target + "?", target + "#.png", target + "/", target + "/.",
        target + "::$DATA",
        "./" + target, "~" + target, "%20" + target, target.replace("/", "/./"), target.replace("/", "%E2%88%95"),
    ]  # fmt: skip


async def cases(stage: Stage) -> AsyncIterator[Case]:
    """Asked by Ben, who has a cookie and uploads of his own."""
    link = stage.chat.database.parent / "link"
    beside = Path(stage.his.upload).with_name("link")
    for each in (link, beside):
        if not each.is_symlink():
            each.symlink_to(stage.chat.database)
    marks = (ROOT / "app.py").read_text(encoding="utf-8").splitlines()[-1]
    targets = [*_targets(stage), str(beside), f"{stage.his.upload}/../link"]
    for route in ROUTES:
        for target in targets if route == ROUTES[0] else targets[:: len(targets) // FEW]:
            answers = await _answers(stage, [route + spelling for spelling in _spellings(target)])
            for spelling, answer in zip(_spellings(target), answers, strict=True):
                yield Case(f"{route}{spelling}", fault(answer) or ("holds app.py" if marks in answer else ""))
    for address in (
        "http://evil.example/",
        "http://127.0.0.1@evil.example/",
        "*",
        "//evil.example/",
        "evil.example:443",
    ):
        [answer] = await _answers(stage, [address])
        yield Case(f"the whole address {address}", "a redirect" if "evil.example" in answer else "")


async def _answers(stage: Stage, targets: list[str]) -> list[str]:
    cookie = f"cookie: parley_visitor={stage.ben.cookie}"
    return await asyncio.gather(*(raw(stage.chat, f"GET {target} HTTP/1.1\r\n{cookie}") for target in targets))
