"""Nothing gets in that isn't for this chat: by another name, from another site's page, or too large."""

from collections.abc import AsyncIterator, Iterable

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from playwright.sync_api import BrowserContext, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message

from chat.edge import Edge, Hosts
from chat.policy import Policy
from tests.browser import Chat, ask, open_page

POLICY = Policy(head="", image_hosts=["images.example"], frames=["https://huggingface.co"])
PUBLIC = ["chat.example.org", "*.example.net"]


async def echo(request: Request) -> PlainTextResponse:
    if "names" in request.query_params:
        return PlainTextResponse(str([request.headers.get(name) for name in ("x-forwarded-host", "x-gradio-server")]))
    return PlainTextResponse((await request.body())[:10])


def client(bound: str = "127.0.0.1", public: Iterable[str] = PUBLIC) -> httpx.AsyncClient:
    app = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST"])])
    edge = Edge(app, hosts=Hosts(bound, public), policy=POLICY, limits={"": 1000, "/short": 10})
    return httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://localhost:7860")


class TestHost:
    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "host",
        [
            "localhost:7860",
            "LOCALHOST",
            "localhost.",
            "127.0.0.1",
            "127.8.9.10:1",
            "[::1]:7860",
            "chat.example.org",
            "chat.example.org:8443",
            "a.example.net",
            "a.b.example.net",
        ],
    )
    async def test_a_name_of_this_chat_is_answered(self, host: str) -> None:
        assert (await client().get("/", headers={"host": host})).status_code == 200

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("evil.example", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("evilexample.net", 421),
            ("example.net", 421),
            ("192.168.1.5", 421),
            ("2130706433", 421),
            ("localhost@evil.example", 400),
            ("evil.example@localhost", 400),
            ("localhost,evil.example", 400),
            ("localhost:x", 400),
            ("localhost/x", 400),
            ("[::1", 400),
            ("", 400),
        ],
    )
    async def test_another_name_is_refused(self, host: str, status: int) -> None:
        answer = await client().get("/", headers={"host": host})
        assert answer.status_code == status

    @pytest.mark.anyio
    async def test_the_refusal_names_the_setting(self) -> None:
        answer = await client().get("/", headers={"host": "evil.example"})
        assert "evil.example" in answer.text
        assert "CHAT_ALLOWED_HOSTS" in answer.text

    @pytest.mark.anyio
    async def test_two_names_at_once_are_refused(self) -> None:
        headers = [("host", "localhost"), ("host", "evil.example")]
        assert (await client().get("/", headers=headers)).status_code == 400

    @pytest.mark.anyio
    @pytest.mark.parametrize("bound", ["0.0.0.0", "::"])  # noqa: S104  # nothing is bound
    async def test_a_chat_on_all_addresses_is_reached_by_each_of_them_but_by_no_foreign_name(self, bound: str) -> None:
        everywhere = client(bound, public=[])
        for host, status in (("192.168.1.5:7860", 200), ("[fe80::1]", 200), ("evil.example", 421)):
            assert (await everywhere.get("/", headers={"host": host})).status_code == status

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("forwarded", "passed_on"),
        [
            ("chat.example.org:8443", "chat.example.org:8443"),
            ("chat.example.org, a.example.net", "chat.example.org, a.example.net"),
            ("evil.example", "localhost:7860"),
            ("evil.example, chat.example.org", "localhost:7860"),
            ("chat.example.org/evil.example", "localhost:7860"),
            ("", "localhost:7860"),
        ],
    )
    async def test_a_proxy_can_not_name_a_foreign_host_for_the_page(self, forwarded: str, passed_on: str) -> None:
        headers = {"x-forwarded-host": forwarded, "x-gradio-server": f"https://{forwarded}"}
        tunnel = headers["x-gradio-server"] if passed_on == forwarded else None
        assert (await client().get("/?names", headers=headers)).text == str([passed_on, tunnel])

    @pytest.mark.anyio
    async def test_a_share_link_is_known_once_there_is_one(self) -> None:
        hosts = Hosts("127.0.0.1")
        assert not hosts.know("abc.gradio.live")
        hosts.add("abc.gradio.live")
        assert hosts.know("abc.gradio.live")


class TestOrigin:
    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("host", "origin"),
        [
            ("localhost:7860", "http://localhost:7860"),
            ("127.0.0.1:7860", "http://127.0.0.1:7860"),
            ("[::1]:7860", "http://[::1]:7860"),
            ("chat.example.org", "https://chat.example.org"),
            ("chat.example.org:443", "https://chat.example.org"),
            ("localhost:7860", "https://chat.example.org"),  # A proxy that names its own target.
            ("chat.example.org", "https://chat.example.org:8443"),  # And one that leaves the port out.
        ],
    )
    async def test_a_page_of_this_chat_may_ask(self, host: str, origin: str) -> None:
        answer = await client().post("/", headers={"host": host, "origin": origin})
        assert answer.status_code == 200

    @pytest.mark.anyio
    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    @pytest.mark.parametrize(
        "origin",
        [
            "null",
            "",
            "https://evil.example",
            "http://localhost",
            "http://localhost:3000",
            "http://127.0.0.1:7860",
            "http://localhost:7860.evil.example",
            "http://localhost:7860@evil.example",
            "file://localhost:7860",
            "http://localhost:7860 https://evil.example",
        ],
    )
    async def test_a_page_of_another_site_or_of_none_is_refused(self, method: str, origin: str) -> None:
        answer = await client().request(method, "/", headers={"origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.anyio
    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    @pytest.mark.parametrize(("mode", "dest"), [("no-cors", "script"), ("cors", "empty"), ("navigate", "embed")])
    async def test_what_another_page_loads_for_itself_is_refused(self, site: str, mode: str, dest: str) -> None:
        headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
        assert (await client().get("/", headers=headers)).status_code == 403

    @pytest.mark.anyio
    @pytest.mark.parametrize("dest", ["document", "iframe"])
    async def test_another_page_may_lead_here_but_not_post_a_form(self, dest: str) -> None:
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": dest}
        assert (await client().get("/", headers=headers)).status_code == 200
        assert (await client().post("/", headers=headers)).status_code == 403


class TestSize:
    @pytest.mark.anyio
    @pytest.mark.parametrize(("path", "size", "status"), [("/", 1000, 200), ("/", 1001, 413), ("/short/er", 11, 413)])
    async def test_a_body_has_a_limit(self, path: str, size: int, status: int) -> None:
        assert (await client().post(path, content=b"x" * size)).status_code == status

    @pytest.mark.anyio
    async def test_a_body_that_does_not_say_how_long_it_is_has_it_too(self) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 100_000:
                sent += 100
                yield b"x" * 100

        answer = await client().post("/", content=endless())
        assert answer.status_code == 413
        assert "1,000 bytes" in answer.text

    @pytest.mark.anyio
    @pytest.mark.parametrize("length", ["-1", "1e3", "x", "1001"])
    async def test_a_length_that_is_none_or_too_large_is_refused_unread(self, length: str) -> None:
        answer = await client().post("/", content=b"x", headers={"content-length": length})
        assert answer.status_code == 413


class TestHeaders:
    @pytest.mark.anyio
    async def test_every_answer_protects_whoever_gets_it(self) -> None:
        for headers in ({}, {"host": "evil.example"}, {"origin": "null"}):
            answer = await client().get("/", headers=headers)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert "script-src 'none'" in answer.headers["content-security-policy"]

    def test_a_page_may_run_the_servers_scripts_and_no_others(self) -> None:
        policy = POLICY.text("<script>one</script><script data-x>two\n</script><script src='./a.js'></script>")
        [scripts] = [directive for directive in policy.split("; ") if directive.startswith("script-src")]
        assert scripts.count("'sha256-") == 2
        assert "'unsafe-inline'" not in scripts
        assert "http" not in scripts

    def test_images_come_from_the_chat_and_the_hosts_that_were_named(self) -> None:
        assert "img-src 'self' data: blob: https://images.example;" in POLICY.text()

    def test_the_page_of_a_space_may_show_it_in_a_frame(self) -> None:
        assert "frame-ancestors 'self' https://huggingface.co" in POLICY.text()
        assert Policy(head="", image_hosts=[], frames=[]).text().endswith("frame-ancestors 'self'")


def test_a_message_in_the_browser_runs_and_loads_nothing_and_nothing_of_the_page_is_in_the_policys_way(
    visitor: BrowserContext, chat: Chat
) -> None:
    page = open_page(visitor, chat.url)
    reported: list[str] = []
    page.on("console", lambda message: reported.append(message.text) if "Security Policy" in message.text else None)
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")
    ask(page, "tool add")
    ask(page, "echo $$x^2$$ and `code`")
    page.locator("#conversations a").first.click()
    page.emulate_media(color_scheme="dark")
    assert reported == []

    answered: list[str] = []
    page.on("response", lambda response: answered.append(response.url))
    page.on("dialog", lambda dialog: answered.append(dialog.message))
    ask(
        page,
        'echo <img src="https://elsewhere.example/a.png" onerror="alert(1)"> ![x](https://elsewhere.example/b.png)',
    )
    assert [url for url in answered if not url.startswith(chat.url)] == []
    assert any("elsewhere.example/b.png" in text for text in reported)
    shown = page.locator("#conversation .bot.message").last.get_by_role("link", name="x (elsewhere.example)")
    with visitor.expect_page() as opened:  # Only a click leads there.
        shown.click()
    assert not opened.value.url.startswith(chat.url)


SENT = st.binary(max_size=40) | st.sampled_from(
    [b"localhost", b"http://localhost", b"[::1]", b"127.0.0.1:7860", b"null"]
)
NAMES = st.sampled_from(
    [
        b"host",
        b"origin",
        b"x-forwarded-host",
        b"x-gradio-server",
        b"sec-fetch-site",
        b"sec-fetch-mode",
        b"content-length",
    ]
)


@examples(max_examples=80, deadline=None)
@given(st.lists(st.tuples(NAMES, SENT), max_size=4))
def test_whatever_the_headers_say_a_request_is_answered_or_refused(headers: list[tuple[bytes, bytes]]) -> None:
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        statuses.extend([message["status"]] if message["type"] == "http.response.start" else [])

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    edge = Edge(PlainTextResponse("answered"), hosts=Hosts("127.0.0.1", PUBLIC), policy=POLICY, limits={"": 1000})
    anyio.run(edge, scope, receive, send)
    named = [value for name, value in headers if name == b"host"]
    assert statuses[0] in ((200, 403, 413, 421) if len(named) == 1 else (400,)) or statuses == [400]
