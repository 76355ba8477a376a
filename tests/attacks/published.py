"""Gradio's published vulnerabilities, tried again where they touch an app that is served.

SECURITY.md lists them, also those of parts of Gradio that the chat doesn't have.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from tests.attacks.stage import Case, Stage, fault, raw

Try = tuple[str, str, str, dict[str, Any]]
"""The vulnerability, and the request for it."""

METADATA = "http://169.254.169.254/latest/meta-data/"


def _tries(stage: Stage) -> list[Try]:
    database = str(stage.chat.database)
    file = {"path": database, "meta": {"_type": "gradio.FileData"}, "orig_name": "x.txt"}
    moved = {"component_id": 1, "data": "/etc/passwd", "fn_name": "move_resource_to_block_cache", "session_hash": "x"}
    origin = {"origin": "http://localhost.evil.example"}
    chat = stage.functions["chat"]["id"]
    fetched = [{"text": "files", "files": [{**file, "path": METADATA, "url": METADATA}]}, {}]
    local = [{"text": "files", "files": [file]}, {}]
    redirects = ("https://evil.example", "//evil.example", "https:%2F%2Fevil.example", "\\\\evil.example")
    return [
        ("CVE-2024-1561, CVE-2023-51449", "POST", "/gradio_api/component_server", {"json": moved}),
        ("CVE-2024-34511", "POST", "/gradio_api/component_server/", {"json": {**moved, "fn_name": "__class__"}}),
        *(
            (name, "POST", f"/gradio_api/{path}", {"json": {"data": data, "fn_index": chat, "session_hash": name}})
            for name, data in (
                ("CVE-2024-0964, CVE-2024-4941", local),
                ("CVE-2024-1728", [{"text": "files", "files": [{**file, "path": "../../../../../../etc/passwd"}]}, {}]),
                ("CVE-2024-4325, CVE-2024-47167", fetched),
            )
            for path in ("run/predict", "api/chat", "call/chat", "run/chat")
        ),
        *(("CVE-2024-4940, CVE-2024-8021", "GET", f"/gradio_api/file={url}", {}) for url in redirects),
        *(("CVE-2024-4940", "GET", f"/{name}={url}", {}) for url in redirects for name in ("file", "proxy")),
        ("CVE-2024-1183", "GET", "/gradio_api/file=http://127.0.0.1:22", {}),
        *(("CVE-2024-2206", "GET", f"/gradio_api/proxy={url}", {}) for url in (METADATA, "https://x.hf.space/x")),
        ("CVE-2026-28416", "GET", "/gradio_api/proxy=http://127.0.0.1:1/", {}),
        ("CVE-2024-1727", "POST", "/gradio_api/upload", {"headers": origin, "files": {"files": b"x"}}),
        *(
            (name, "POST", "/gradio_api/run/predict", {"headers": {"origin": value}, "json": {"data": []}})
            for name, value in (
                ("CVE-2024-47084", "http://evil.example"),
                ("CVE-2024-47165", "null"),
                ("CVE-2025-5320", "http://localhost.evil.example"),
            )
        ),
        *(
            ("CVE-2024-47166", "GET", f"/gradio_api/custom_component/1/client/component/{path}", {})
            for path in ("..%2f..%2fconfig", "%2e%2e/app.py")
        ),
        *(("CVE-2024-47168", "GET", path, {}) for path in ("/monitoring", "/monitoring/summary", "/monitoring/x")),
        *(
            ("CVE-2024-47164, CVE-2025-23042", "GET", f"/gradio_api/file={path}", {})
            for path in (stage.his.upload + "/../../../../../../etc/passwd", database.upper(), "/ETC/PASSWD")
        ),
        ("CVE-2024-47870", "GET", "/config", {"headers": {"x-forwarded-host": "evil.example"}}),
        ("CVE-2026-28414", "GET", "/gradio_api/file=/windows/win.ini", {}),
        ("CVE-2026-28414", "GET", "/static//windows/win.ini", {}),
        *(
            ("CVE-2026-27167, CVE-2026-28415", "GET", f"{path}?_target_url=https://evil.example", {})
            for path in ("/login/huggingface", "/logout", "/login/callback")
        ),
        ("CVE-2025-48889", "POST", "/gradio_api/run/flag", {"json": {"data": [file], "fn_index": 0}}),
        ("deep links", "GET", "/?deep_link=../../etc/passwd", {}),
        ("deep links", "GET", "/gradio_api/deep_link?session_hash=x", {}),
        ("vibe mode", "POST", "/gradio_api/vibe-edit", {"json": {"prompt": "x"}}),
        ("reload mode", "GET", "/gradio_api/dev/reload", {}),
    ]


async def cases(stage: Stage) -> AsyncIterator[Case]:
    """Each by Ben, over HTTP."""
    for name, method, path, how in _tries(stage):
        async with stage.ben.http.stream(method, path, **how) as answer:
            text = f"{json.dumps(dict(answer.headers))} {(await answer.aread()).decode(errors='replace')}"
        led = "evil.example" in text or "169.254" in answer.headers.get("location", "")
        allowed = answer.headers.get("access-control-allow-origin", "")
        yield Case(f"{name}: {method} {path}", fault(text) or allowed or ("leads elsewhere" if led else ""))
    address = {"path": METADATA, "url": METADATA, "meta": {"_type": "gradio.FileData"}}
    for name, function in stage.functions.items():
        if function["backend_fn"] and function["inputs"]:
            ask = stage.ben.run if function["queue"] is False else stage.ben.call
            answer = await ask(function["id"], [address for _ in function["inputs"]])
            fetched = "" if "Only files that were uploaded" in answer else f"not refused: {answer[-300:]}"
            yield Case(f"CVE-2024-4325: an address in a call of {name}", fetched)
    boundary = "x" * 100_000 + "-" * 500_000
    head = "POST /gradio_api/upload HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: 600000"
    answer = await raw(stage.chat, f"{head}\r\ncookie: parley_visitor={stage.ben.cookie}\r\n\r\n--x{boundary}")
    yield Case("CVE-2024-8966: a boundary with much behind it", fault(answer))
    answer = await stage.anna.ask("GET", "/parley/conversations")
    yield Case("Anna is answered after it", "" if answer.startswith("200") else answer)
