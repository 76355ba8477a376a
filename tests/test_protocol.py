"""The chat through Gradio's own protocol, without a browser: many at once, and visitors who are no page."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import aclosing
from itertools import pairwise
from typing import Any

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from chat.view import PAINT_SECONDS, WINDOW
from tests.anything import ANYTHING, TEXT, objects
from tests.browser import Chat
from tests.long import lengthen
from tests.protocol import Messages, Status, Visitor, shown
from tests.provider import KEY, running_provider, words

NEW: Status = {"conversation": None}


def conversation_of(status: Status) -> Status:
    """What a page that shows the conversation would send."""
    return {"conversation": status["conversation"]}


def test_fifty_conversations_at_once_are_complete_and_stored_as_the_model_sent_them(
    start_chat: Callable[..., Chat],
) -> None:
    async def fifty(chat: Chat) -> None:
        async with Visitor(chat.url) as visitor:
            prompts = [f"words {number}" for number in range(50, 100)]
            painted = await asyncio.gather(*(visitor.last("chat", prompt, NEW) for prompt in prompts))
            for prompt, (messages, status) in zip(prompts, painted, strict=True):
                whole = [prompt, words(int(prompt.split()[1]))]
                assert status["phase"] == "idle"
                assert shown(messages)[:-1] == whole  # The last line says what it took.
                stored, _ = await visitor.last("watch", conversation_of(status))
                assert shown(stored)[:-1] == whole

    with running_provider() as provider:
        chat = start_chat("--model", "openai-chat:test", OPENAI_BASE_URL=provider.url, OPENAI_API_KEY=KEY)
        asyncio.run(fifty(chat))
        assert len(provider.exchanges) == 50


def test_of_many_messages_at_once_in_one_conversation_one_is_answered_and_the_others_are_refused(chat: Chat) -> None:
    async def many() -> None:
        async with Visitor(chat.url) as visitor:
            _, status = await visitor.last("chat", "echo begin", NEW)
            sent = [
                visitor.last("chat", f"slow {number}", {**conversation_of(status), "sent": number})
                for number in range(5, 15)
            ]
            painted = [status for _, status in await asyncio.gather(*sent)]
            [accepted] = [status["accepted"] for status in painted if status["accepted"]]
            assert sorted(status["refused"] for status in painted if status["refused"]) == [
                number for number in range(5, 15) if number != accepted
            ]
            messages, _ = await visitor.last("watch", conversation_of(status))
            assert shown(messages) == ["echo begin", "begin", f"slow {accepted}", words(accepted)]

    asyncio.run(many())


def test_an_update_of_a_reply_is_as_small_after_two_thousand_messages_as_at_first(chat: Chat) -> None:
    async def updates(turns: int) -> list[int]:
        async with Visitor(chat.url) as visitor:
            _, status = await visitor.last("chat", "echo begin", NEW)
            if turns:
                await asyncio.to_thread(lengthen, chat.database, status["conversation"], turns)
            visitor.received.clear()
            began = time.monotonic()
            async with aclosing(visitor.call("chat", "long 200", conversation_of(status))) as frames:
                shown_at_once = [len(messages) async for messages, _ in frames]
            # The first frame, the last ones, and in between one each tenth of a second.
            assert len(visitor.received) <= (time.monotonic() - began) / PAINT_SECONDS + 4
            assert max(shown_at_once) <= WINDOW + 2
            return visitor.received

    async def compare() -> None:
        short, long = await updates(0), await updates(1000)
        assert long[0] < 10_000
        assert max(long[1:-1]) < 2_000
        assert sum(long[1:-1]) < 1.5 * sum(short[1:-1])

    asyncio.run(compare())


def test_a_reply_is_finished_when_everybody_who_watched_it_has_gone(chat: Chat) -> None:
    async def come_and_go() -> tuple[Messages, Status]:
        async with Visitor(chat.url) as visitor:
            async with aclosing(visitor.call("chat", "slow 10", NEW)) as frames:
                async for messages, status in frames:
                    conversation = conversation_of(status)
                    if "word2" in shown(messages)[-1]:
                        break
            return await visitor.last("watch", conversation)

    messages, status = asyncio.run(come_and_go())
    assert status["phase"] == "idle"
    assert shown(messages) == ["slow 10", words(10)]


def test_a_watcher_of_a_fast_reply_is_sent_the_latest_state_and_not_each_word(chat: Chat) -> None:
    async def watch() -> list[str]:
        async with Visitor(chat.url) as visitor:
            return [shown(messages)[-1] async for messages, _ in visitor.call("chat", "long 300", NEW)]

    painted = asyncio.run(watch())
    assert painted[-1] == words(300)
    assert all(later.startswith(earlier) for earlier, later in pairwise(painted[1:]))
    assert len(painted) < 100


def test_what_an_api_client_sends_of_another_conversation_tells_and_changes_nothing(chat: Chat) -> None:
    async def two_visitors() -> None:
        async with Visitor(chat.url) as anna, Visitor(chat.url) as ben:
            async with aclosing(anna.call("chat", "slow 10", NEW)) as frames:
                _, status = await anext(frames)  # The reply is being written.
                actions = [("act", (), {"action": {"do": do}}) for do in ("retry", "switch", "bring back", "fork")]
                for name, data, more in (("watch", (), {}), ("chat", ("stolen",), {}), *actions):
                    messages, seen = await ben.last(name, *data, conversation_of(status) | more)
                    assert messages == []
                    assert seen["notice"] == "This conversation does not exist. Here is a new chat."
                await ben.post("page_stop", conversation_of(status))
                painted = [shown(messages) async for messages, _ in frames]
            assert painted[-1] == ["slow 10", words(10)]

    asyncio.run(two_visitors())


def test_a_link_to_a_message_of_a_version_that_is_not_shown_opens_that_version(chat: Chat) -> None:
    async def follow() -> None:
        async with Visitor(chat.url) as visitor:
            first, status = await visitor.last("chat", "echo one", NEW)
            prompt, reply = (message["metadata"]["id"].partition(":")[0] for message in first)
            edit = {"do": "edit", "entry": prompt, "text": "echo two"}
            edited, _ = await visitor.last("act", conversation_of(status) | {"action": edit})
            assert shown(edited) == ["echo two", "two"]
            linked = conversation_of(status) | {"span": {"around": reply}}
            assert shown((await visitor.last("watch", linked))[0]) == ["echo one", "one"]
            assert shown((await visitor.last("watch", conversation_of(status)))[0]) == ["echo one", "one"]
            async with aclosing(visitor.call("chat", "slow 10", conversation_of(status))) as frames:
                await anext(frames)
                hidden = conversation_of(status) | {"span": {"around": edited[1]["metadata"]["id"].partition(":")[0]}}
                messages, _ = await visitor.last("watch", hidden)
                assert shown(messages)[:2] == ["echo one", "one"]  # What is being written stays in view.

    asyncio.run(follow())


def test_a_server_whose_tool_blocks_ends_when_it_is_told_to(start_chat: Callable[..., Chat]) -> None:
    chat = start_chat("--agent", "tests.scripted:agent")

    async def begin() -> None:
        async with Visitor(chat.url) as visitor, aclosing(visitor.call("chat", "tool blocked", NEW)) as frames:
            async for messages, _ in frames:
                if re.search("Tool: block", str(messages)):
                    chat.process.terminate()
                    await asyncio.to_thread(chat.process.join, 3)
                    assert chat.process.exitcode == 0
                    return

    asyncio.run(begin())


HERE = "<the conversation of the page>"
STATUS = objects(
    "token", "sent", "accepted", "refused", "decided", "early", "choice", "acted", "failed", "opened", "history",
    conversation=st.just(HERE),
    span=objects("first", "last", "around"),
    action=objects(
        "entry", "text", "model",
        do=st.sampled_from(["edit", "retry", "take back", "bring back", "switch", "fork"]),
        kind=st.sampled_from(["prompt", "reply"]),
        number=st.integers(-1, 10**30),
    ),
    decisions=objects("token", calls=st.lists(objects("id", "fingerprint", "verdict", "arguments"), max_size=3)),
)  # fmt: skip
"""What a page sends as its state."""

CHOSEN = objects(chosen=objects("model", "instructions", "temperature", "thinking", "tools_off"))


# Each is a conversation, too slow to shrink.
@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(status=STATUS | ANYTHING, chosen=CHOSEN | ANYTHING, message=TEXT)
@example(status={}, chosen={}, message="a\x85b\u2028c")
def test_whatever_a_page_sends_as_its_state_is_answered(chat: Chat, status: Any, chosen: Any, message: str) -> None:
    async def call() -> None:
        async with Visitor(chat.url) as visitor:
            _, begun = await visitor.last("chat", "echo begin", NEW)
            if isinstance(status, dict) and status.get("conversation") == HERE:
                status["conversation"] = begun["conversation"]
            for painting in (
                visitor.last("watch", status),
                visitor.last("act", status),
                visitor.last("page_decide", status),
                visitor.last("chat", message, status),
            ):
                _, painted = await painting
                assert painted["phase"] == "idle", painted
            await visitor.post("page_stop", status)
            await visitor.post("choice_of", status)
            await visitor.post("choose", chosen, status)

    asyncio.run(call())
