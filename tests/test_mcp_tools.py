"""The chat as tools for other agents: a real MCP client against the running chat."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import ToolError
from inline_snapshot import snapshot

from chat import accounts
from chat.endpoints import ENDPOINTS
from chat.server import Server, StartError
from chat.settings import Settings
from tests.browser import Chat

pytestmark = pytest.mark.anyio

Tools = Client[StreamableHttpTransport]


@pytest.fixture(scope="module")
def offering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """A chat that offers its tools."""
    chat = Chat(tmp_path_factory.mktemp("tools"), "--agent", "tests.scripted:agent", CHAT_MCP="true")
    yield chat
    chat.kill()


@asynccontextmanager
async def tools(chat: Chat, cookies: httpx.Cookies | None = None) -> AsyncIterator[Tools]:
    """A client that is set up with these cookies."""
    headers = {"cookie": "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())}
    async with Client(StreamableHttpTransport(f"{chat.url}/parley/mcp", headers=headers)) as client:
        yield client


async def cookies(chat: Chat) -> httpx.Cookies:
    """Those of a new visitor."""
    async with httpx.AsyncClient() as http:
        await http.get(f"{chat.url}/parley/api/about")
        return http.cookies


async def post(chat: Chat, cookies: httpx.Cookies | None = None, **headers: str) -> int:
    """The status of a call by a client that asks nothing before."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list", "arguments": {}}}
    accepted = {"accept": "application/json, text/event-stream", **headers}
    async with httpx.AsyncClient(cookies=cookies) as http:
        return (await http.post(f"{chat.url}/parley/mcp", json=call, headers=accepted)).status_code


async def use(client: Tools, name: str, **arguments: Any) -> Any:
    answer = (await client.call_tool(name, arguments)).structured_content
    assert answer is not None
    return answer.get("result", answer)


async def refusal(client: Tools, name: str, **arguments: Any) -> str:
    with pytest.raises(ToolError) as refused:
        await client.call_tool(name, arguments)
    return str(refused.value).removeprefix(f"Error executing tool {name}: ")


async def test_the_tools_are_the_endpoints_without_deciding_what_is_a_persons_to_decide(offering: Chat) -> None:
    async with tools(offering) as client:
        listed = await client.list_tools()
    assert {tool.name for tool in listed} == set(ENDPOINTS) - {"decide"}
    [send] = [tool for tool in listed if tool.name == "send"]
    assert send.description == snapshot(
        "Send a message, with files that were uploaded, to a conversation or to a new one, and get its reply."
    )
    assert {name: each.get("type") for name, each in send.input_schema["properties"].items()} == snapshot(
        {"text": "string", "conversation": None, "model": None, "files": None}
    )


async def test_a_model_sends_reads_searches_changes_and_exports_a_conversation(offering: Chat) -> None:
    told: list[float] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async with tools(offering, await cookies(offering)) as client:
        sent = await client.call_tool("send", {"text": "tool"}, progress_handler=tell)
        reply = sent.structured_content
        assert reply is not None
        assert (reply["state"], reply["message"]["text"]) == ("complete", "I will add them. \n\nThe sum is 42.")
        assert len(told) > 1
        conversation = reply["conversation"]
        assert (await use(client, "read", conversation=conversation))["messages"][-1] == reply["message"]
        assert (await use(client, "rename", conversation=conversation, title="Sums"))["title"] == "Sums"
        assert [each["title"] for each in (await use(client, "search", query="sum"))["conversations"]] == ["Sums"]
        assert (await use(client, "export", conversation=conversation, form="markdown"))["name"] == "Sums.md"
        await client.call_tool("delete", {"conversation": conversation})
        assert await refusal(client, "read", conversation=conversation) == "This conversation does not exist."
        assert (await use(client, "restore", conversation=conversation))["title"] == "Sums"


async def test_another_visitors_conversation_is_a_missing_one(offering: Chat) -> None:
    async with tools(offering, await cookies(offering)) as ann, tools(offering, await cookies(offering)) as ben:
        conversation = (await use(ann, "send", text="echo hi"))["conversation"]
        for name in ("read", "follow", "stop", "delete", "restore", "export"):
            hers, nothing = [await refusal(ben, name, conversation=each) for each in (conversation, "nonsense")]
            assert hers == nothing
        assert (await use(ben, "list"))["conversations"] == []
        assert (await use(ann, "read", conversation=conversation))["messages"][0]["text"] == "echo hi"


async def test_whoever_sends_no_cookie_is_told_to_and_writes_nothing(offering: Chat) -> None:
    async with tools(offering) as client:
        for name, arguments in (("list", {}), ("send", {"text": "echo hi"}), ("about", {})):
            assert (await refusal(client, name, **arguments)).startswith("This chat doesn't know for whom you call.")


async def test_what_cant_be_used_is_refused_in_a_sentence(offering: Chat) -> None:
    async with tools(offering, await cookies(offering)) as client:
        for name, arguments in (
            ("send", {"text": " "}),
            ("send", {"text": "hi", "model": "none"}),
            ("list", {"after": "nonsense"}),
            ("rename", {"conversation": "x", "title": "\u202e"}),
        ):
            assert (await refusal(client, name, **arguments)).endswith(".")
        assert "text" in await refusal(client, "send", text=5)
        assert "place" in await refusal(client, "move", conversation="x", place="nowhere")
        assert (await use(client, "list"))["conversations"] == []


async def test_a_page_of_another_site_can_not_use_them(offering: Chat) -> None:
    assert await post(offering, await cookies(offering), origin="https://evil.example") == 403
    assert await post(offering, await cookies(offering)) == 200


async def test_while_nobody_else_can_reach_the_chat_its_person_needs_no_cookie(
    start_chat: Callable[..., Chat],
) -> None:
    chat = start_chat("--agent", "tests.scripted:agent", CHAT_MCP="true", CHAT_LOCAL="true")
    async with tools(chat) as client:
        await use(client, "send", text="echo hi")
    async with httpx.AsyncClient(base_url=f"{chat.url}/parley/api") as browser:
        await browser.get("/about")
        listing = (await browser.get("/conversations")).json()
    assert [each["title"] for each in listing["conversations"]] == ["echo hi"]
    # A proxy's request is somebody else's.
    headers = {"x-forwarded-for": "203.0.113.1"}
    async with Client(StreamableHttpTransport(f"{chat.url}/parley/mcp", headers=headers)) as client:
        assert (await refusal(client, "list")).startswith("This chat doesn't know for whom you call.")


async def test_with_accounts_a_client_sends_the_cookie_of_a_session(
    start_chat: Callable[..., Chat], tmp_path: Path
) -> None:
    accounts.add(tmp_path / "people", "bot", "long enough")
    chat = start_chat("--agent", "tests.scripted:agent", CHAT_MCP="true", CHAT_AUTH=str(tmp_path / "people"))
    async with httpx.AsyncClient() as http:
        await http.post(f"{chat.url}/login", data={"name": "bot", "password": "long enough"})
        async with tools(chat, http.cookies) as client:
            assert (await use(client, "send", text="echo hi"))["message"]["text"] == "hi"
    assert await post(chat) == 401


async def test_they_are_off_unless_asked_for(chat: Chat) -> None:
    assert await post(chat, await cookies(chat)) in (404, 405)


async def test_without_the_library_the_start_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "chat.mcp_tools", raising=False)
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    with pytest.raises(StartError, match=r'CHAT_MCP needs another library: pip install "mcp'):
        Server(Settings(agent="tests.scripted:agent", mcp=True, database=tmp_path / "chat.db"))
