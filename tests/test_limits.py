"""What visitors use is counted before and after each reply, and neither a restart nor a kill gives any of it back."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic_ai import Agent, ModelMessage
from pydantic_ai.agent import WrapperAgent
from pydantic_ai.conversation_store import ConversationRecord
from pydantic_ai.messages import BinaryContent, ModelRequest, TextPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.usage import UsageLimits

from chat.allowance import AddressAllowance, ReplyAllowance, TotalAllowance, VisitorAllowance
from chat.database import Database
from chat.identity import Owner
from chat.limits import Left, LimitReached, Limits
from chat.models import ChatAgent, ChatModel
from chat.runs import ConversationMissing, Run
from chat.services import Services, open_services
from chat.settings import Settings
from chat.spending import Spending
from tests.browser import Chat
from tests.protocol import Status, Visitor

pytestmark = pytest.mark.anyio

ANNA, BEN = Owner("visitor:anna"), Owner("visitor:ben")
NOON = 20_000 * 24 * 3600 + 12 * 3600
DAY = 24 * 3600
PATIENCE = 20
"""Seconds that a test waits for what happens at once when it works."""


class Clock:
    """Stands at noon until a test moves it."""

    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


class Counter:
    """Limits in a database of their own, used by replies that are over at once."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.clock = clock
        self._database = database
        self._replies = 0
        self.limits: Limits

    def set(
        self,
        visitor: VisitorAllowance = VisitorAllowance(),  # noqa: B008  # It is frozen.
        total: TotalAllowance = TotalAllowance(),  # noqa: B008
        reply: ReplyAllowance = ReplyAllowance(),  # noqa: B008
        *,
        address: AddressAllowance = AddressAllowance(),  # noqa: B008
    ) -> None:
        """The limits; new ones are those of a server that was started again."""
        self.limits = Limits(self._database, visitor, address, total, reply, self.clock)

    async def begin(self, owner: Owner = ANNA) -> str:
        """The conversation of a reply that is being written."""
        self._replies += 1
        conversation_id = f"conversation {self._replies}"
        async with self.limits.reserved(owner, conversation_id):
            await self._database.change(lambda change: None)
        return conversation_id

    async def reply(self, owner: Owner = ANNA, *, tokens: int = 0, micros: int = 0) -> None:
        conversation_id = await self.begin(owner)
        async with self.limits.settled(conversation_id, Spending(tokens, micros)):
            await self._database.change(lambda change: None)

    async def refusal(self, owner: Owner = ANNA) -> str:
        """What a visitor reads who can't send."""
        with pytest.raises(LimitReached) as refused:
            await self.begin(owner)
        return str(refused.value)


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    async with Database(tmp_path / "chat.db") as database:
        yield Counter(database, Clock())


# What is refused, and when it is possible again


async def test_a_day_has_so_many_messages_and_the_next_one_again(counter: Counter) -> None:
    counter.set(VisitorAllowance(messages_per_day=2))
    await counter.reply()
    await counter.reply()
    assert await counter.refusal() == (
        "You have had 2 messages today, as many as a day allows. This is possible again at midnight UTC, in 12 hours."
    )
    counter.clock.now += 12 * 3600 - 59
    assert (await counter.refusal()).endswith("in 59 seconds.")
    await counter.reply(BEN)
    counter.clock.now += 59
    await counter.reply()


async def test_a_minute_has_so_many_messages(counter: Counter) -> None:
    counter.set(VisitorAllowance(messages_per_minute=1))
    await counter.reply()
    counter.clock.now += 13
    assert await counter.refusal() == "You can have 1 message a minute. This is possible again in 47 seconds."
    counter.clock.now += 47
    await counter.reply()


async def test_tokens_are_counted_by_what_replies_used(counter: Counter) -> None:
    counter.set(VisitorAllowance(tokens_per_day=20_000))
    await counter.reply(tokens=19_999)
    await counter.reply(tokens=1)
    assert (await counter.refusal()).startswith("You have used 20,000 tokens today, as much as a day allows. This is ")


async def test_dollars_are_counted_to_the_millionth(counter: Counter) -> None:
    counter.set(VisitorAllowance(dollars_per_day=0.5))
    await counter.reply(micros=499_999)
    await counter.reply(micros=1)
    assert (await counter.refusal()).startswith("You have used $0.50 today, as much as a day allows. This is possible ")


async def test_so_many_replies_are_written_for_a_visitor_at_a_time(counter: Counter) -> None:
    counter.set(VisitorAllowance(runs=1))
    conversation_id = await counter.begin()
    assert await counter.refusal() == "You can have 1 reply written at a time. Try again when one of them has ended."
    await counter.begin(BEN)
    await counter.limits.settle(conversation_id, Spending())
    await counter.begin()


async def test_what_all_may_use_together_holds_however_many_visitors_they_say_they_are(counter: Counter) -> None:
    counter.set(total=TotalAllowance(messages_per_day=20))
    for number in range(20):
        await counter.reply(Owner(f"visitor:{number}"))
    assert (await counter.refusal(Owner("visitor:new"))).startswith("This chat has had 20 messages today, as many as ")


async def test_what_is_used_beside_replies_counts(counter: Counter) -> None:
    counter.set(VisitorAllowance(tokens_per_day=1_000), TotalAllowance(tokens_per_day=1_500))
    await counter.limits.charge(ANNA, Spending(1_000))
    assert "1,000 tokens" in await counter.refusal()
    await counter.limits.charge(BEN, Spending(500))
    assert "This chat has used 1,500 tokens" in await counter.refusal(BEN)


async def test_a_clock_that_goes_back_gives_nothing_back(counter: Counter) -> None:
    counter.set(VisitorAllowance(messages_per_day=1, messages_per_minute=5))
    await counter.reply()
    counter.clock.now -= 3 * DAY
    assert "in 3 days and 12 hours" in await counter.refusal()
    counter.clock.now += 3 * DAY
    await counter.refusal()
    counter.set(VisitorAllowance(messages_per_minute=1))
    counter.clock.now -= 3 * DAY
    assert "again in 60 seconds" in await counter.refusal()


async def test_without_limits_nothing_is_counted(counter: Counter) -> None:
    counter.set()
    await counter.reply(tokens=1_000)
    counter.set(VisitorAllowance(messages_per_day=1))
    await counter.reply()


# By address


HERE, THERE = "8.8.8.8", "2001:4860:4860::/64"


def stranger(number: int, address: str = HERE) -> Owner:
    """Who throws cookies away is another visitor each time."""
    return Owner(f"visitor:{address} {number}", address)


async def test_visitors_from_one_address_share_what_it_may_use_whoever_they_say_they_are(counter: Counter) -> None:
    counter.set(VisitorAllowance(messages_per_day=5), address=AddressAllowance(messages_per_day=3))
    for number in range(3):
        await counter.reply(stranger(number))
    assert (await counter.refusal(stranger(3))).startswith("Your network has had 3 messages today, as many as a day ")
    assert await counter.limits.left(stranger(3)) == Left("0 of 3 messages left today for your network", low=True)
    await counter.reply(stranger(1, THERE))
    await counter.reply(Owner("user:anna"))


async def test_an_hour_has_so_many_new_visitors_from_an_address_and_those_before_go_on(counter: Counter) -> None:
    counter.set(address=AddressAllowance(visitors_per_hour=2))
    await counter.reply(stranger(1))
    counter.clock.now += 600
    await counter.reply(stranger(2))
    assert await counter.refusal(stranger(3)) == (
        "Your network can have 2 new visitors an hour. This is possible again in 50 minutes, and at once in a browser "
        "that has been here before."
    )
    await counter.reply(stranger(1))
    await counter.reply(stranger(3, THERE))
    counter.clock.now += 3_000
    await counter.reply(stranger(3))


async def test_new_visitors_who_come_at_the_same_time_are_counted_too(counter: Counter) -> None:
    counter.set(address=AddressAllowance(visitors_per_hour=4, runs=100))
    begun = await asyncio.gather(*(counter.begin(stranger(number)) for number in range(50)), return_exceptions=True)
    assert len([each for each in begun if isinstance(each, str)]) == 4
    assert {type(each) for each in begun} == {str, LimitReached}


async def test_a_restart_gives_an_address_nothing_back_and_a_refused_visitor_stays_new(counter: Counter) -> None:
    counter.set(VisitorAllowance(messages_per_day=1), address=AddressAllowance(visitors_per_hour=1))
    await counter.reply(stranger(1))
    counter.set(VisitorAllowance(messages_per_day=1), address=AddressAllowance(visitors_per_hour=1))
    await counter.limits.release()
    for _ in range(2):
        assert "1 new visitor an hour" in await counter.refusal(stranger(2))


async def test_an_address_is_kept_as_a_hash_until_the_next_day(counter: Counter, tmp_path: Path) -> None:
    def stored() -> tuple[list[str], int]:
        with sqlite3.connect(tmp_path / "chat.db") as connection:
            rows = connection.execute("SELECT who FROM spending WHERE who LIKE 'address:%'").fetchall()
            [(keys,)] = connection.execute("SELECT count(*) FROM address_key").fetchall()
            assert not any(HERE in line for line in connection.iterdump() if "visitor:" not in line)
        connection.close()
        return [who for (who,) in rows], keys

    counter.set(address=AddressAllowance(messages_per_day=5))
    await counter.reply(stranger(1))
    [first], keys = stored()
    assert keys == 1
    counter.clock.now += DAY
    await counter.reply(stranger(1, THERE))
    [second], keys = stored()
    assert (first != second, keys) == (True, 1)
    counter.clock.now += DAY
    await counter.limits.release()
    assert stored() == ([], 0)


async def test_what_a_visitor_imports_first_makes_them_a_new_one(path: Path) -> None:
    async def take(services: Services, owner: Owner) -> None:
        async with services.limits.kept(owner):
            record = ConversationRecord(conversation_id=owner, revision="1", head_id=None, scope=owner)
            await services.store.write_record(record, expected_revision=None)

    async with open_services(Settings(database=path, address_limits="visitors_per_hour=1")) as services:
        await take(services, stranger(1))
        with pytest.raises(LimitReached, match="1 new visitor an hour"):
            await take(services, stranger(2))


# What is kept


async def test_a_visitor_keeps_so_many_conversations_and_deleting_one_makes_room(path: Path, model: "Model") -> None:
    model.may_end.set()
    async with limited(path, "conversations=2") as services:
        first = await answer(services, model.chat_agent)
        await answer(services, model.chat_agent)
        with pytest.raises(LimitReached, match="2 conversations can be kept here for you"):
            await services.runs.send(ANNA, None, "hello", model.chat_agent)
        await answer(services, model.chat_agent, first.conversation_id)
        await services.deletions.delete(ANNA, first.conversation_id)
        third = await answer(services, model.chat_agent)
        assert (await services.store.read_record(third.conversation_id)) is not None


async def test_messages_and_files_fill_what_a_visitor_may_keep_until_they_are_erased(
    path: Path, model: "Model"
) -> None:
    model.may_end.set()
    image = [BinaryContent(bytes(900_000), media_type="image/png"), "Look."]
    async with limited(path, "storage_mb=1") as services:
        run = await services.runs.send(ANNA, None, image, model.chat_agent)
        await until(run, lambda: run.done)
        with pytest.raises(LimitReached, match="At most 1 MB can be kept here for you, and"):
            await services.runs.send(ANNA, run.conversation_id, image, model.chat_agent)
        assert len(await services.store.load_entries(run.conversation_id) or []) == 2
        other = await services.runs.send(BEN, None, image, model.chat_agent)
        await until(other, lambda: other.done)
        await services.store.delete(run.conversation_id, scope=ANNA)
        again = await services.runs.send(ANNA, None, image, model.chat_agent)
        await until(again, lambda: again.done)


async def test_all_together_fill_the_database(path: Path, model: "Model") -> None:
    async with open_services(Settings(database=path, total_limits="storage_mb=1")) as services:
        with pytest.raises(LimitReached, match="At most 1 MB can be kept here, and this would"):
            await services.runs.send(ANNA, None, "x" * 1_000_000, model.chat_agent)


async def test_what_a_conversation_keeps_is_counted_to_the_byte_wherever_it_goes(path: Path, model: "Model") -> None:
    def held() -> dict[str, tuple[int, int]]:
        with sqlite3.connect(path) as connection:
            rows = connection.execute("SELECT * FROM holding WHERE conversations > 0 OR bytes > 0").fetchall()
        connection.close()
        return {owner: (conversations, size) for owner, conversations, size in rows}

    def stored() -> int:
        with sqlite3.connect(path) as connection:
            [(size,)] = connection.execute("SELECT sum(length(CAST(message AS BLOB))) FROM entry")
        connection.close()
        return size

    model.may_end.set()
    async with limited(path, "") as services:
        run = await answer(services, model.chat_agent)
        fork = await services.store.fork(run.conversation_id, at=1, scope=ANNA)
        again = await services.runs.retry(ANNA, run.conversation_id, model.chat_agent)
        await until(again, lambda: again.done)
        assert held() == {ANNA: (2, stored())}
        await services.store.delete(run.conversation_id, scope=ANNA)
        assert held() == {ANNA: (1, stored())}
        await services.deletions.delete(ANNA, fork.conversation_id)
        assert held() == {ANNA: (0, stored()), f"deleted:{ANNA}": (1, 0)}
        await services.deletions.restore(ANNA, fork.conversation_id)
        claim = "UPDATE conversation SET scope = ? WHERE scope = ?"
        await services.store.database.change(lambda change: change.execute(claim, (BEN, ANNA)))
        assert held() == {BEN: (1, stored())}
        await services.store.delete(fork.conversation_id, scope=BEN)
        assert held() == {}


# At the same time


async def test_replies_written_at_the_same_time_go_beyond_a_limit_by_less_than_one_reply(counter: Counter) -> None:
    counter.set(total=TotalAllowance(tokens_per_day=1_000), reply=ReplyAllowance(tokens=300))
    begun = await asyncio.gather(
        *(counter.begin(Owner(f"visitor:{number}")) for number in range(50)), return_exceptions=True
    )
    admitted = [each for each in begun if isinstance(each, str)]
    assert len(admitted) == 4
    assert {str(each) for each in begun if not isinstance(each, str)} == {
        "The replies that are being written may use what is left for today. Try again when one of them has ended."
    }
    await asyncio.gather(*(counter.limits.settle(each, Spending(tokens=300)) for each in admitted))
    assert "This chat has used 1,000 tokens today" in await counter.refusal()


async def test_what_is_held_for_a_reply_is_free_again_when_it_used_less(counter: Counter) -> None:
    counter.set(VisitorAllowance(tokens_per_day=1_000), reply=ReplyAllowance(tokens=600))
    first, _ = await counter.begin(), await counter.begin()
    assert "may use what is left" in await counter.refusal()
    await counter.limits.settle(first, Spending(tokens=10))
    await counter.begin()


async def test_nothing_is_counted_twice_or_held_when_what_is_stored_beside_it_fails(
    counter: Counter, tmp_path: Path
) -> None:
    counter.set(VisitorAllowance(messages_per_day=1, runs=1))
    with pytest.raises(ZeroDivisionError):
        async with counter.limits.reserved(ANNA, "conversation"):
            raise ZeroDivisionError
    await counter.reply()


# What is left


async def test_what_is_left_is_said_of_what_is_scarcest(counter: Counter) -> None:
    counter.set(
        VisitorAllowance(messages_per_day=50, tokens_per_day=10_000, dollars_per_day=1),
        TotalAllowance(tokens_per_day=20_000),
    )
    assert await counter.limits.left(ANNA) == Left("$1.00 of $1.00 left today", low=False)
    for _ in range(38):
        await counter.reply()
    assert await counter.limits.left(ANNA) == Left("12 of 50 messages left today", low=True)
    await counter.reply(tokens=8_000)
    assert await counter.limits.left(ANNA) == Left("20% of 10,000 tokens left today", low=True)
    await counter.reply(BEN, tokens=9_000)
    assert await counter.limits.left(BEN) == Left("10% of 10,000 tokens left today", low=True)
    assert await counter.limits.left(ANNA) == Left("15% of 20,000 tokens left today for all visitors", low=True)


async def test_nothing_is_said_where_a_day_has_no_limit(counter: Counter) -> None:
    counter.set(VisitorAllowance(messages_per_minute=3))
    assert await counter.limits.left(ANNA) is None


# With replies


class Model:
    """Writes a word for each call, and then waits until it may end."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_end = asyncio.Event()
        self.chat_agent = ChatAgent(
            Agent(FunctionModel(stream_function=self._stream, model_name="model")), (ChatModel("model"),)
        )

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        self.asked += 1
        yield "word"
        await self.may_end.wait()


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@asynccontextmanager
async def limited(path: Path, visitor: str, reply: str = "") -> AsyncIterator[Services]:
    async with open_services(Settings(database=path, visitor_limits=visitor, reply_limits=reply)) as services:
        yield services


async def until(run: Run, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        version = -1
        while not condition():
            version = await run.after(version)


async def answer(services: Services, agent: ChatAgent, conversation_id: str | None = None) -> Run:
    run = await services.runs.send(ANNA, conversation_id, "hello", agent)
    await until(run, lambda: run.done)
    return run


def used(path: Path) -> dict[str, tuple[int, ...]]:
    """The messages, tokens and replies being written that are counted, by whom."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT who, messages, tokens, running FROM spending").fetchall()
    connection.close()
    return {who: tuple(counts) for who, *counts in rows}


async def test_a_refused_message_reaches_neither_the_model_nor_the_database(path: Path, model: Model) -> None:
    model.may_end.set()
    async with limited(path, "messages_per_day=1") as services:
        run = await answer(services, model.chat_agent)
        for conversation_id in (None, run.conversation_id):
            with pytest.raises(LimitReached):
                await services.runs.send(ANNA, conversation_id, "more", model.chat_agent)
        with pytest.raises(LimitReached):
            await services.runs.retry(ANNA, run.conversation_id, model.chat_agent)
        assert model.asked == 1
        assert len(await services.store.read_records()) == 1
        entries = await services.store.load_entries(run.conversation_id)
        assert entries is not None
        assert len(entries) == 2


async def test_another_try_counts_as_a_message_also_of_a_prompt_that_has_no_reply(path: Path, model: Model) -> None:
    model.may_end.set()
    async with limited(path, "messages_per_day=9") as services:
        run = await answer(services, model.chat_agent)
        for count in (2, 3):
            again = await services.runs.retry(ANNA, run.conversation_id, model.chat_agent)
            if count == 3:
                again.stop()
            await until(again, lambda: again.done)  # noqa: B023  # Awaited before the next.
            assert used(path)[ANNA][0] == count


async def test_a_prompt_that_is_refused_for_another_reason_counts_nothing(path: Path, model: Model) -> None:
    async with limited(path, "messages_per_day=9") as services:
        with pytest.raises(ConversationMissing):
            await services.runs.send(ANNA, "somebody's", "hello", model.chat_agent)
        assert used(path) == {}


async def test_a_restart_gives_nothing_back(path: Path, model: Model) -> None:
    model.may_end.set()
    async with limited(path, "messages_per_day=1") as services:
        await answer(services, model.chat_agent)
    async with limited(path, "messages_per_day=1") as services:
        with pytest.raises(LimitReached):
            await services.runs.send(ANNA, None, "hello", model.chat_agent)


async def test_a_reply_whose_process_was_killed_is_counted_as_what_was_read_and_written_and_no_longer_held(
    path: Path, model: Model
) -> None:
    killed = path.with_name("killed.db")
    async with limited(path, "messages_per_day=9") as services:
        run = await services.runs.send(ANNA, None, "x" * 4_000, model.chat_agent)
        await until(run, lambda: bool(run.partial.messages()))
        with sqlite3.connect(path) as source, sqlite3.connect(killed) as target:
            source.backup(target)
        source.close()
        target.close()
        assert used(killed) == {ANNA: (1, 0, 1), "": (1, 0, 1)}
    for _ in range(2):
        async with limited(killed, "messages_per_day=9"):
            assert used(killed) == {ANNA: (1, 1_000, 0), "": (1, 1_000, 0)}


async def test_stopping_a_reply_makes_it_no_cheaper(path: Path, model: Model) -> None:
    async with limited(path, "messages_per_day=9") as services:
        run = await services.runs.send(ANNA, None, "x" * 4_000, model.chat_agent)
        await until(run, lambda: bool(run.partial.messages()))
        run.stop()
        await until(run, lambda: run.done)
        assert used(path)[ANNA] >= (1, 1_000, 0)


async def test_a_reply_ends_before_the_request_that_would_go_beyond_its_limit_and_keeps_what_it_has(path: Path) -> None:
    async def call(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[dict[int, DeltaToolCall]]:
        yield {0: DeltaToolCall(name="look", json_args="{}", tool_call_id=f"call-{len(messages)}")}

    agent = Agent(FunctionModel(stream_function=call, model_name="caller"))
    agent.tool_plain(name="look")(lambda: "nothing")
    async with limited(path, "", "requests=3") as services:
        run = await answer(services, ChatAgent(agent, (ChatModel("caller"),)))
        entries = await services.store.load_entries(run.conversation_id) or []
        found = [part for e in entries if isinstance(e.message, ModelRequest) for part in e.message.parts]
        assert len([part for part in found if isinstance(part, ToolReturnPart)]) == 3
        [outcome] = (await services.journal.outcomes([entry.id for entry in entries])).values()
        assert outcome.sentence == "This reply has reached the limit that is set for its use of the model."


@pytest.mark.parametrize(
    ("own", "limit", "asked"), [(10, "requests=3", 3), (2, "requests=9", 2), (10, "tool_calls=4", 5)]
)
async def test_of_the_limits_of_an_agent_and_those_of_the_chat_the_stricter_holds(
    path: Path, own: int, limit: str, asked: int
) -> None:
    class Careful(WrapperAgent[None, str]):
        @asynccontextmanager
        async def iter(self, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
            named["usage_limits"] = UsageLimits(request_limit=own)
            async with super().iter(*arguments, **named) as run:
                yield run

    requests = 0

    async def call(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[dict[int, DeltaToolCall]]:
        nonlocal requests
        requests += 1
        yield {0: DeltaToolCall(name="look", json_args="{}", tool_call_id=f"call-{len(messages)}")}

    agent = Agent(FunctionModel(stream_function=call, model_name="caller"))
    agent.tool_plain(name="look")(lambda: "nothing")
    async with limited(path, "", limit) as services:
        await answer(services, ChatAgent(Careful(agent), (ChatModel("caller"),)))
    assert requests == asked


async def test_a_whole_reply_is_kept_also_when_it_went_beyond_its_limit(path: Path, model: Model) -> None:
    model.may_end.set()
    async with limited(path, "", "tokens=1") as services:
        run = await answer(services, model.chat_agent)
        entries = await services.store.load_entries(run.conversation_id) or []
        assert await services.journal.outcomes([entry.id for entry in entries]) == {}
        assert entries[-1].message.parts == [TextPart("word")]


# On the page


@pytest.fixture(scope="module")
def limited_chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    limits = ("--visitor-limits", "messages_per_day=2", "--address-limits", "visitors_per_hour=2")
    chat = Chat(tmp_path_factory.mktemp("limited"), "--agent", "tests.scripted:agent", *limits)
    yield chat
    chat.kill()


def test_a_page_says_what_is_left_and_why_a_message_was_refused(limited_chat: Chat) -> None:
    new: Status = {"conversation": None}

    async def use_up(chat: Chat) -> None:
        async with Visitor(chat.url) as visitor:
            _, status = await visitor.last("watch", new)
            assert status["left"] == "<span class='left'>2 of 2 messages left today</span>"
            _, status = await visitor.last("chat", "echo one", new)
            assert status["left"] == "<span class='left'>1 of 2 messages left today</span>"
            _, status = await visitor.last("chat", "echo two", status)
            assert status["left"] == "<span class='left low'>0 of 2 messages left today</span>"
            messages, status = await visitor.last("chat", "echo three", {**status, "sent": 3})
            assert status["refused"] == 3
            assert len(messages) == 4

    asyncio.run(use_up(limited_chat))


def test_messages_that_come_at_the_same_time_do_not_share_what_is_left_for_one(limited_chat: Chat) -> None:
    async def flood(chat: Chat) -> list[int]:
        async with httpx.AsyncClient(base_url=chat.url, timeout=PATIENCE) as anna:
            await anna.get("/parley/api/about")
            (await anna.post("/parley/api/conversations", json={"text": "echo one"})).raise_for_status()
            answers = await asyncio.gather(
                *(anna.post("/parley/api/conversations", json={"text": "echo two"}) for _ in range(10))
            )
            listed = (await anna.get("/parley/api/conversations")).json()["conversations"]
            assert len(listed) == 2
            return sorted(answer.status_code for answer in answers)

    assert asyncio.run(flood(limited_chat)) == [200] + [429] * 9


def test_who_throws_the_cookie_away_is_known_by_the_address_that_a_proxy_saw(limited_chat: Chat) -> None:
    async def come(address: str) -> int:
        async with httpx.AsyncClient(base_url=limited_chat.url, headers={"x-forwarded-for": address}) as new:
            await new.get("/parley/api/about")
            return (await new.post("/parley/api/conversations", json={"text": "echo"})).status_code

    async def come_often() -> list[int]:
        seen = ("8.8.8.8", "8.8.8.8", "8.8.8.8", "9.9.9.9, 8.8.8.8", "8.8.4.4, 127.0.0.1", "2620:fe::1", "2620:fe::2")
        return [await come(address) for address in (*seen, "2620:fe::3", "2620:fe:0:1::1")]

    assert asyncio.run(come_often()) == [200, 200, 429, 429, 200, 200, 200, 429, 200]


def test_a_chat_that_others_reach_has_limits_and_one_on_this_machine_has_none(tmp_path: Path) -> None:
    async def left(*, public: bool) -> Left | None:
        async with open_services(Settings(database=tmp_path / "chat.db"), public=public) as services:
            return await services.limits.left(ANNA)

    assert asyncio.run(left(public=True)) == Left("$1.00 of $1.00 left today", low=False)
    assert asyncio.run(left(public=False)) is None
