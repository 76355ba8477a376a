"""Other sites' pages and rebound names, with Anna's own cookie; headers of proxies, and bodies that are none."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

from tests.attacks.stage import Case, Stage, fault, raw

HOSTS = (
    "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1.nip.io", "evil.example:80",
    "0.0.0.0", "0", "2130706433", "0x7f000001", "169.254.169.254", "[::]", "[::ffff:8.8.8.8]", "localhost@evil.example",  # noqa: S104  # nothing is bound
    "evil.example#localhost", "localhost evil.example", "localhost,evil.example", "xn--lcalhost-54a", "l\u00f6calhost",
    "huggingface.co", "gradio.live", "127.0.0.1:99999999", "",
)  # fmt: skip
ORIGINS = (
    "null", "", "https://evil.example", "http://evil.example", "http://localhost", "http://localhost:1", "file://",
    "chrome-extension://abc", "https://huggingface.co", "http://127.0.0.1.evil.example", "http://127.0.0.1@evil.example",
    "HTTP://EVIL.EXAMPLE", "javascript:alert(1)", "http://127.0.0.2", "data:", "*", "http://[::1]",
)  # fmt: skip
SITES: tuple[Mapping[str, str], ...] = tuple(
    {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    for site in ("cross-site", "same-site", "nonsense")
    for mode, dest in (("no-cors", "image"), ("no-cors", "script"), ("cors", "empty"), ("navigate", "object"))
)
FORWARDED = (
    "x-forwarded-host",
    "x-gradio-server",
    "x-forwarded-server",
    "x-original-host",
    "x-host",
    "forwarded",
    "x-forwarded-prefix",
)

BODIES = (
    b"", b"null", b"[]", b'"x"', b"{", b"{}" * 10, b"\x00", b"\xff\xfe{}", b"[" * 50_000, b'{"data":' * 20_000,
    b'{"fn_index": "0"}', b'{"fn_index": -1, "data": []}', b'{"fn_index": 1e999, "data": []}',
    b'{"fn_index": 99999999999999999999, "data": []}',
    b'{"fn_index": [0], "data": {}}', b'{"data": null, "fn_index": 0}',
    b'{"fn_index": 0, "fn_index": 1, "data": [], "session_hash": {"a": 1}}', b'{"__proto__": {}, "constructor": 1}',
    b'{"fn_index": 0, "data": [1,2,3,4,5,6,7,8,9], "session_hash": "a"}', b'{"fn_index": NaN, "data": [Infinity]}',
    b'{"fn_index": null, "api_name": "/chat", "data": [], "session_hash": "\\ud800"}',
)  # fmt: skip


async def cases(stage: Stage) -> AsyncIterator[Case]:
    """All of it with Anna's cookie, as her browser would send it."""
    before = await stage.hers_now()
    async for case in _foreign(stage):
        yield case
    after = await stage.hers_now()
    yield Case("nothing of Anna's was changed by a foreign page", "" if after == before else "it was")
    async for case in _forwarded(stage):
        yield case
    async for case in _malformed(stage):
        yield case
    async for case in _flood(stage):
        yield case


async def _foreign(stage: Stage) -> AsyncIterator[Case]:
    call = {"data": ["stolen", {"conversation": stage.hers.conversation}], "session_hash": "x"}
    call["fn_index"] = stage.functions["chat"]["id"]
    requests: list[tuple[str, str, dict[str, object]]] = [
        ("GET", "/", {}),
        ("GET", "/config", {}),
        ("GET", "/parley/conversations", {}),
        ("GET", f"/parley/export/{stage.hers.conversation}", {}),
        ("GET", "/gradio_api/queue/data?session_hash=x", {}),
        ("GET", f"/gradio_api/file={stage.hers.upload}", {}),
        ("OPTIONS", "/gradio_api/queue/join", {"access-control-request-method": "POST"}),
        ("POST", "/gradio_api/queue/join", call),
        ("POST", "/gradio_api/run/predict", call),
        ("POST", "/gradio_api/upload", {}),
        ("POST", f"/parley/shares?conversation={stage.hers.conversation}", {}),
        ("POST", f"/parley/shares/{stage.hers.share}/revoke", {}),
        ("POST", "/parley/import", {}),
        ("PATCH", f"/parley/conversations/{stage.hers.conversation}", {"deleted": True}),
    ]
    forged: list[Mapping[str, str]] = [{"host": host} for host in HOSTS]
    forged += [{"origin": origin} for origin in ORIGINS]
    forged += SITES
    for method, path, body in requests:
        for headers in forged:
            sent = [(name.encode(), value.encode()) for name, value in headers.items()]
            content = json.dumps(body).encode() if method in ("POST", "PATCH") else None
            answer = await stage.anna.http.request(method, path, headers=sent, content=content)
            refused = answer.status_code in (400, 403, 421)
            allowed = answer.headers.get("access-control-allow-origin", "")
            wrong = fault(answer.text) or ("" if refused and not allowed else f"{answer.status_code} {allowed}")
            yield Case(f"{method} {path.partition('?')[0]} with {dict(headers)}", wrong)


async def _forwarded(stage: Stage) -> AsyncIterator[Case]:
    """What a proxy may say does not lead the page elsewhere."""
    for name in FORWARDED:
        for value in (
            "evil.example",
            "host=evil.example",
            "//evil.example",
            "https://evil.example",
            "/..//evil.example",
            "evil.example\u00e4",
        ):
            for path in ("/", "/config", "/gradio_api/info", "/login", "/theme.css"):
                answer = await stage.ben.http.get(path, headers={name: value.encode()}, follow_redirects=False)
                place = f"{answer.headers.get('location', '')} {answer.text}"
                yield Case(
                    f"{path} with {name}: {value}", "names evil.example" if "evil.example" in place else fault(place)
                )


async def _malformed(stage: Stage) -> AsyncIterator[Case]:
    """What is no request of a page gets an answer without insides, and ends nothing."""
    paths = ["/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/run/chat", "/gradio_api/upload"]
    paths += ["/parley/import", "/parley/shares?conversation=%00", "/parley/shares/%00/revoke"]
    types = ("application/json", "multipart/form-data", "multipart/form-data; boundary=x", "text/plain")
    for path in paths:
        for body in BODIES:
            for kind in types:
                answer = await stage.ben.http.post(
                    path, content=body, headers={"content-type": kind, "connection": "close"}
                )
                wrong = fault(answer.text)
                yield Case(f"{path} with {body[:30]!r} as {kind}", wrong)
    for size in (TOO_LARGE, 10 * TOO_LARGE):
        for path in ("/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/upload", "/parley/import", "/"):
            answer = await raw(stage.chat, f"POST {path} HTTP/1.1\r\ncontent-length: {size}")
            yield Case(f"{path} with {size:,} bytes", "" if " 413 " in answer[:40] else answer[-300:])


TOO_LARGE = 10**10


async def _flood(stage: Stage) -> AsyncIterator[Case]:
    """Many at once, and Anna is answered all the same."""
    index = stage.functions["watch"]["id"]
    for count, ask in (
        (300, lambda: stage.stranger.ask("GET", "/parley/conversations")),
        (100, lambda: stage.stranger.call(index, [{"conversation": stage.hers.conversation}])),
        (100, lambda: stage.ben.ask("GET", f"/parley/announcements?c={stage.hers.conversation}")),
        (50, lambda: stage.ben.ask("GET", "/parley/export")),
    ):
        answers = await asyncio.gather(*(ask() for _ in range(count)), return_exceptions=True)
        wrong = [fault(answer) for answer in answers if isinstance(answer, str) and fault(answer)]
        hers = await stage.anna.call(index, [{"conversation": stage.hers.conversation}])
        yield Case(f"{count} at once", wrong[0] if wrong else "" if stage.hers.entry in hers else "Anna got no answer")
