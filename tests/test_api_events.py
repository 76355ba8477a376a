"""The chat for programs that use `gradio_client`: what there is, what it answers, and to whom."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from inline_snapshot import snapshot

from chat.endpoints import ENDPOINTS
from tests.browser import Chat


def program(chat: Chat, cookies: dict[str, str] | None = None) -> Client:
    """A program: a new visitor, or one that kept its cookies."""
    return Client(chat.url, verbose=False, httpx_kwargs={"cookies": cookies or {}})


@pytest.fixture(scope="module")
def careless(chat: Chat) -> Client:
    return program(chat)


@pytest.fixture
def ann(chat: Chat) -> Iterator[Client]:
    client = program(chat)
    yield client
    client.close()


def call(client: Client, name: str, *arguments: Any) -> Any:
    return client.predict(*arguments, api_name=f"/{name}")


def refusal(client: Client, name: str, *arguments: Any) -> str:
    with pytest.raises(AppError) as refused:
        call(client, name, *arguments)
    return str(refused.value)


class TestWhatThereIs:
    def test_the_endpoints_are_listed_with_their_types_and_nothing_of_the_page_is(self, chat: Chat) -> None:
        named = httpx.get(f"{chat.url}/gradio_api/info").json()["named_endpoints"]
        assert sorted(named) == sorted(f"/{name}" for name in ENDPOINTS)
        shown = {
            name: ", ".join(
                f"{each['parameter_name']}: {each['python_type']['type']}" for each in endpoint["parameters"]
            )
            for name, endpoint in named.items()
        }
        assert shown == snapshot(
            {
                "/about": "",
                "/list": "after: None | str, archived: bool, limit: int",
                "/read": "conversation: str, before: None | int, limit: int",
                "/send": "text: str, conversation: None | str, model: None | str, files: None | list[dict(str, Any)]",
                "/follow": "conversation: str",
                "/decide": "conversation: str, token: str, decisions: list[dict(str, Any)]",
                "/stop": "conversation: str",
                "/search": "query: str",
                "/rename": "conversation: str, title: str",
                "/move": "conversation: str, place: Literal['archived', 'listed', 'pinned']",
                "/delete": "conversation: str",
                "/restore": "conversation: str",
                "/export": "conversation: str, form: Literal['markdown', 'json', 'case']",
            }
        )
        assert named["/stop"]["returns"][0]["python_type"]["type"] == "dict(stopped: bool)"

    def test_a_browsers_page_is_not_longer_by_them(self, chat: Chat) -> None:
        page = httpx.get(chat.url).text
        assert [name for name in ENDPOINTS if f'"api_name":"{name}"' in page.replace(" ", "")] == []
        assert '"api_name":"watch"' in page.replace(" ", "")

    def test_what_the_page_calls_can_not_be_called_by_name(self, ann: Client) -> None:
        for name in ("watch", "act", "choose", "page_stop", "page_decide"):
            with pytest.raises(ValueError, match=f"Cannot find a function with `api_name`: /{name}"):
                call(ann, name, {})


class TestReplies:
    def test_a_reply_is_told_as_it_grows_and_at_last_as_it_is_stored(self, ann: Client) -> None:
        replies = list(ann.submit("tool", api_name="/send"))
        texts = [reply["message"]["text"] for reply in replies]
        assert {reply["state"] for reply in replies[:-1]} == {"writing"}
        assert len(replies) > 2
        assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
        last = replies[-1]
        assert last["state"] == "complete"
        assert call(ann, "read", last["conversation"])["messages"][-1] == last["message"]
        assert call(ann, "follow", last["conversation"]) == last

    def test_a_reply_goes_on_without_its_reader_and_is_followed_and_stopped_by_another(self, chat: Chat) -> None:
        ann = program(chat)
        writing = next(iter(ann.submit("hang", api_name="/send")))
        again = program(chat, ann.cookies)
        followed = again.submit(writing["conversation"], api_name="/follow")
        assert next(iter(followed))["state"] == "writing"
        assert "still being written" in refusal(again, "send", "me too", writing["conversation"])
        assert call(again, "stop", writing["conversation"]) == {"stopped": True}
        assert followed.result()["state"] == "stopped"
        assert call(again, "stop", writing["conversation"]) == {"stopped": False}

    def test_a_decision_counts_once(self, ann: Client) -> None:
        reply = call(ann, "send", "approve")
        decisions = [
            {"id": each["id"], "fingerprint": each["fingerprint"], "verdict": "deny", "text": "Not today."}
            for each in reply["pending"]
        ]
        decided = call(ann, "decide", reply["conversation"], reply["token"], decisions)
        assert decided["message"]["text"].endswith("denied: Not today.")
        assert "decided already" in refusal(ann, "decide", reply["conversation"], reply["token"], decisions)


def test_a_conversation_is_found_renamed_moved_exported_deleted_and_restored(ann: Client) -> None:
    conversation = call(ann, "send", "echo a walrus")["conversation"]
    assert call(ann, "rename", conversation, "Tusks")["title"] == "Tusks"
    assert [found["title"] for found in call(ann, "search", "walr")["conversations"]] == ["Tusks"]
    assert call(ann, "move", conversation, "archived")["place"] == "archived"
    assert call(ann, "list")["conversations"] == []
    assert [listed["id"] for listed in call(ann, "list", None, True)["conversations"]] == [conversation]
    exported = call(ann, "export", conversation, "markdown")
    assert (exported["name"], exported["media_type"]) == ("Tusks.md", "text/markdown; charset=utf-8")
    assert "a walrus" in exported["text"]
    assert json.loads(call(ann, "export", conversation)["text"])["format"] == "parley-conversation"
    assert call(ann, "delete", conversation) is None
    assert refusal(ann, "read", conversation) == "This conversation does not exist."
    assert call(ann, "restore", conversation)["title"] == "Tusks"


class TestOwners:
    def test_another_program_has_nothing_of_it_and_one_with_its_cookie_all(self, chat: Chat, ann: Client) -> None:
        conversation = call(ann, "send", "echo hi")["conversation"]
        ben, again = program(chat), program(chat, ann.cookies)
        assert refusal(ben, "read", conversation) == refusal(ben, "read", "nonsense")
        assert call(ben, "list")["conversations"] == []
        assert [listed["id"] for listed in call(again, "list")["conversations"]] == [conversation]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("send", [" "]),
        ("send", [5]),
        ("send", ["hi", None, "none"]),
        ("send", ["hi", {"id": 1}]),
        ("send", ["hi", "x" * 100_000]),
        ("list", ["nonsense"]),
        ("list", [None, "maybe"]),
        ("read", ["x", -1]),
        ("read", [["x"]]),
        ("decide", ["x", "x", [{"id": 1}]]),
        ("decide", ["x", "x", "approve"]),
        ("search", ["x" * 100_000]),
        ("rename", ["x", "\u202e"]),
        ("rename", ["x", None]),
        ("move", ["x", "nowhere"]),
        ("export", ["x", "pdf"]),
    ],
)
def test_what_cant_be_used_is_refused_in_a_sentence_and_nothing_is_stored(
    careless: Client, name: str, arguments: list[Any]
) -> None:
    assert refusal(careless, name, *arguments).endswith(".")
    assert call(careless, "list")["conversations"] == []
