"""Versions of turns: whatever is edited, retried, taken back or forked, nothing that was said is ever out of reach."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from playwright.sync_api import BrowserContext, Locator, Page, expect
from pydantic_ai import Agent, ModelMessage
from pydantic_ai.messages import BinaryImage, ModelRequest, ModelResponse, TextContent, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from chat.choices import Choice
from chat.database import MIGRATIONS
from chat.models import ChatAgent, ChatModel
from chat.render import PromptRefused
from chat.runs import STOPPED, ConversationBusy, ConversationMissing, MessageMissing
from chat.services import Services, open_services
from chat.versions import Kind, NotNewest
from chat.view import Span, View, watch
from tests.browser import Chat, ask, open_again, open_page, replies
from tests.test_approval import Office, decide, decision, paused
from tests.test_runs import ANNA, BEN, Pen, answer, done, options, shown, stored
from tests.test_runs import settings as chat_settings
from tests.test_view import Work
from tests.workday import picture


class Writer:
    """A model that answers each prompt with words it has never said."""

    def __init__(self) -> None:
        self.said = 0
        self.heard: list[ModelMessage] = []
        model = FunctionModel(stream_function=self._stream, model_name="writer")
        other = FunctionModel(stream_function=self._stream, model_name="other")
        self.agent = ChatAgent(Agent(model, name="writer"), (ChatModel("writer", model), ChatModel("other", other)))

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        self.heard = messages
        self.said += 1
        yield f"reply {self.said}"


@dataclass
class Tree:
    """What a conversation should be: the lines that it had, which of them is shown, and which was left when."""

    shown: tuple[str, ...] = ()
    made: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    """Each message, by the line up to it, in the order in which they were made."""
    left: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])

    def go_to(self, line: tuple[str, ...]) -> None:
        if line[: len(self.shown)] != self.shown:
            self.left.append(self.shown)
        self.left = [each for each in self.left if each != line]
        for end in range(1, len(line) + 1):
            if line[:end] not in self.made:
                self.made.append(line[:end])
        # What goes on is no end any more.
        self.left = [each for each in self.left if line[: len(each)] != each]
        self.shown = line

    def newest(self, beginning: tuple[str, ...]) -> tuple[str, ...]:
        lines = [self.shown, *reversed(self.left)]
        return next(line for line in lines if line[: len(beginning)] == beginning)

    def following(self, line: tuple[str, ...]) -> list[str]:
        return [each[-1] for each in self.made if each[:-1] == line]

    def prompts(self, at: int) -> list[str | None]:
        return [each for each in self.following(self.shown[:at]) if not each.startswith("reply")]

    def replies(self, at: int) -> list[str | None]:
        found = [each if each.startswith("reply") else None for each in self.following(self.shown[: at + 1])]
        return list(dict.fromkeys([*found, None] if len(self.shown) == at + 1 else found))

    @property
    def turns(self) -> list[int]:
        """Where the turns begin."""
        return [at for at, said in enumerate(self.shown) if not said.startswith("reply")]

    @property
    def taken_back(self) -> bool:
        unanswered = bool(self.shown) and not self.shown[-1].startswith("reply")
        return any(not unanswered or not each.startswith("reply") for each in self.following(self.shown))

    @property
    def leaves(self) -> list[tuple[str, ...]]:
        return [line for line in self.made if not self.following(line)]


NUMBER = st.integers(0, 20)


class Conversations(RuleBasedStateMachine):
    """Any sequence of what a person can do, beside the model of what should come of it."""

    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.stack = contextlib.AsyncExitStack()
        self.trees: dict[str, Tree] = {}
        self.changed = ""
        self.prompted = 0
        self.writer = Writer()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        database = Path(self.directory.name, "chat.db")
        self.services: Services = self.do(self.stack.enter_async_context(open_services(chat_settings(database))))

    def teardown(self) -> None:
        for conversation, tree in self.trees.items():
            self.check(conversation, tree)
        for conversation, tree in self.trees.items():
            self.check_that_all_can_be_reached(conversation, tree)
        self.do(self.stack.aclose())
        self.runner.close()
        self.directory.cleanup()

    @rule(target=opened)
    def begin(self) -> str:
        text = self.prompt()
        conversation = self.answered(self.services.runs.send(ANNA, None, text, self.writer.agent))
        self.trees[conversation] = Tree()
        self.went(conversation, (text,))
        return conversation

    @rule(conversation=opened)
    def send(self, conversation: str) -> None:
        text = self.prompt()
        line = (*self.trees[conversation].shown, text)
        self.answered(self.services.runs.send(ANNA, conversation, text, self.writer.agent))
        self.went(conversation, line)

    @rule(conversation=opened)
    def send_and_be_killed(self, conversation: str) -> None:
        text = self.prompt()
        line = (*self.trees[conversation].shown, text)
        self.do(said(self.services, conversation, text))
        self.tree(conversation).go_to(line)

    @rule(conversation=opened, number=NUMBER)
    def edit(self, conversation: str, number: int) -> None:
        if (turn := self.turn(conversation, number)) is None:
            return
        at, prompt = turn
        text = self.prompt()
        self.answered(self.services.runs.edit(ANNA, conversation, prompt, text, self.writer.agent))
        self.went(conversation, (*self.trees[conversation].shown[:at], text))

    @rule(conversation=opened, number=NUMBER)
    def retry(self, conversation: str, number: int) -> None:
        if (turn := self.turn(conversation, number)) is None:
            return
        at, prompt = turn
        self.answered(self.services.runs.retry(ANNA, conversation, self.writer.agent, prompt))
        self.went(conversation, self.trees[conversation].shown[: at + 1])

    @rule(conversation=opened)
    def take_back(self, conversation: str) -> None:
        tree = self.tree(conversation)
        if tree.turns:
            _, prompt = self.turn(conversation, -1) or (0, "")
            self.do(self.services.versions.take_back(ANNA, conversation, prompt))
            tree.go_to(tree.shown[: tree.turns[-1]])

    @rule(conversation=opened)
    def bring_back(self, conversation: str) -> None:
        tree = self.tree(conversation)
        self.do(self.services.versions.bring_back(ANNA, conversation))
        longer = [line for line in reversed(tree.left) if line[: len(tree.shown)] == tree.shown]
        if longer:
            tree.go_to(longer[0])

    @rule(conversation=opened, number=NUMBER, kind=st.sampled_from(["prompt", "reply"]), to=NUMBER)
    def switch(self, conversation: str, number: int, kind: Kind, to: int) -> None:
        tree = self.tree(conversation)
        if (turn := self.turn(conversation, number)) is None:
            return
        at, prompt = turn
        following = tree.following(tree.shown[: at + (kind == "reply")])
        versions = tree.prompts(at) if kind == "prompt" else tree.replies(at)
        stored_versions = [
            each for each in versions if each is not None or any(not f.startswith("reply") for f in following)
        ]
        if not stored_versions:
            return
        to %= len(stored_versions)
        self.do(self.services.versions.switch(ANNA, conversation, prompt, kind, to + 1))
        tree.go_to(self.leads_to(tree, at, kind, stored_versions[to]))

    @rule(target=opened, conversation=opened, number=NUMBER)
    def fork(self, conversation: str, number: int) -> Any:
        tree = self.tree(conversation)
        if not tree.shown:
            return multiple()
        end = number % len(tree.shown) + 1
        entries = self.do(self.services.store.load_entries(conversation, scope=ANNA))
        fork = self.do(self.services.versions.fork(ANNA, conversation, entries[end - 1].id))
        self.trees[fork] = Tree()
        self.trees[fork].go_to(tree.shown[:end])
        return fork

    @rule(conversation=consumes(opened))
    def delete(self, conversation: str) -> None:
        del self.trees[conversation]
        self.do(self.services.store.delete(conversation, scope=ANNA))

    @invariant()
    def a_conversation_is_as_it_should_be(self) -> None:
        if self.changed in self.trees:
            self.check(self.changed, self.trees[self.changed])

    def check(self, conversation: str, tree: Tree) -> None:
        view = self.do(whole(self.services, conversation))
        assert [each["content"][0]["text"] for each in view.messages if is_said(each)] == list(tree.shown)
        versions = [(turn.turn.asked, turn.turn.answered) for turn in view.turns]
        assert versions == [
            (version(tree.prompts(at), tree.shown[at]), version(tree.replies(at), self.reply(tree, at)))
            for at in tree.turns
        ]
        assert view.taken_back == tree.taken_back

    def check_that_all_can_be_reached(self, conversation: str, tree: Tree) -> None:
        """By the arrows alone, and by bringing back what was taken back."""
        for line in tree.leaves:
            while tree.shown != line:
                self.step_towards(conversation, tree, line)
                self.check(conversation, tree)

    def step_towards(self, conversation: str, tree: Tree, line: tuple[str, ...]) -> None:
        same = next((at for at, (a, b) in enumerate(zip(tree.shown, line, strict=False)) if a != b), len(tree.shown))
        if same == len(tree.shown) and tree.taken_back:
            before = tree.shown
            self.bring_back_of(conversation, tree)
            assert tree.shown != before
            return
        replied = same > 0 and not tree.shown[same - 1].startswith("reply")
        kind: Kind = "reply" if replied else "prompt"
        at = same - 1 if replied else same
        wanted = line[same] if not replied or line[same].startswith("reply") else None
        versions = tree.replies(at) if replied else tree.prompts(at)
        if replied and wanted is None and tree.shown[same : same + 1] and not tree.shown[same].startswith("reply"):
            kind, at, versions, wanted = "prompt", same, tree.prompts(same), line[same]
        self.switch_to(conversation, tree, at, kind, versions.index(wanted))

    def switch_to(self, conversation: str, tree: Tree, at: int, kind: Kind, index: int) -> None:
        versions = tree.replies(at) if kind == "reply" else tree.prompts(at)
        entries = self.do(self.services.store.load_entries(conversation, scope=ANNA))
        self.do(self.services.versions.switch(ANNA, conversation, entries[at].id, kind, index + 1))
        tree.go_to(self.leads_to(tree, at, kind, versions[index]))

    def bring_back_of(self, conversation: str, tree: Tree) -> None:
        self.do(self.services.versions.bring_back(ANNA, conversation))
        tree.go_to(next(line for line in reversed(tree.left) if line[: len(tree.shown)] == tree.shown))

    def leads_to(self, tree: Tree, at: int, kind: Kind, wanted: str | None) -> tuple[str, ...]:
        before = tree.shown[: at + (kind == "reply")]
        if wanted is not None:
            return tree.newest((*before, wanted))
        lines = [line for line in (tree.shown, *reversed(tree.left)) if line[: len(before)] == before]
        return next(line for line in lines if line[len(before) :] and not line[len(before)].startswith("reply"))

    def reply(self, tree: Tree, at: int) -> str | None:
        following = tree.shown[at + 1 : at + 2]
        return following[0] if following and following[0].startswith("reply") else None

    def turn(self, conversation: str, number: int) -> tuple[int, str] | None:
        """Where one of the turns begins, and the id of its prompt."""
        tree = self.trees[conversation]
        if not tree.turns:
            return None
        at = tree.turns[number % len(tree.turns)]
        entries = self.do(self.services.store.load_entries(conversation, scope=ANNA))
        return at, entries[at].id

    def tree(self, conversation: str) -> Tree:
        self.changed = conversation
        return self.trees[conversation]

    def prompt(self) -> str:
        self.prompted += 1
        return f"prompt {self.prompted}"

    def answered(self, sending: Coroutine[Any, Any, Any]) -> str:
        async def answered() -> str:
            run = await sending
            await done(run)
            return run.conversation_id

        return self.do(answered())

    def went(self, conversation: str, line: tuple[str, ...]) -> None:
        """A line was gone to and answered."""
        tree = self.tree(conversation)
        tree.go_to(line)
        tree.go_to((*line, f"reply {self.writer.said}"))


async def whole(services: Services, conversation: str) -> View:
    """What a page shows that asks for all of a conversation."""
    return [view async for view in watch(services, ANNA, conversation, Span(first=0))][-1]


async def said(services: Services, conversation: str, text: str) -> None:
    """Store a prompt without a reply, as a kill would leave it."""
    end = await services.store.load(conversation, limit=1, scope=ANNA)
    assert end is not None
    end.messages.append(ModelRequest([UserPromptPart(text)]))
    await services.store.save(end, scope=ANNA)


def is_said(message: Any) -> bool:
    return message["metadata"]["id"].partition(":")[2] != "note"


def version(versions: list[str | None], shown: str | None) -> tuple[int, int] | None:
    return (versions.index(shown) + 1, len(versions)) if len(versions) > 1 else None


class TestAnything(Conversations.TestCase):
    settings = settings(
        max_examples=10,
        stateful_step_count=25,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(chat_settings(tmp_path / "chat.db")) as services:
        yield services


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def pen() -> Pen:
    return Pen()


async def prompts(services: Services, conversation: str) -> list[str]:
    """The ids of the prompts that are shown."""
    return [turn.turn.prompt for turn in (await shown(services, conversation)).turns]


async def edited(services: Services, conversation: str, prompt: str, text: str, writer: Writer) -> None:
    await done(await services.runs.edit(ANNA, conversation, prompt, text, writer.agent))


@pytest.mark.anyio
class TestEditing:
    async def test_what_is_attached_stays_and_only_the_words_change(self, services: Services, writer: Writer) -> None:
        picture = BinaryImage(b"picture", media_type="image/png", identifier="cat.png")
        notes = TextContent("notes.txt\n\n```text\nA cat.\n```", metadata={"file": "notes.txt", "at": 19, "length": 6})
        run = await services.runs.send(ANNA, None, [picture, notes, "What is it?"], writer.agent)
        await done(run)
        await edited(services, run.conversation_id, run.prompt_id, "What is this?", writer)
        [part] = writer.heard[0].parts
        assert isinstance(part, UserPromptPart)
        assert part.content == [picture, notes, "What is this?"]
        await edited(services, run.conversation_id, run.prompt_id, " ", writer)
        assert writer.heard[0].parts[0].content == [picture, notes]  # pyright: ignore

    async def test_a_text_that_cannot_be_sent_is_refused_and_nothing_changes(
        self, services: Services, writer: Writer
    ) -> None:
        run = await answer(services, writer.agent, "hello")
        for text in ("", " \n", "half \ud83d"):
            with pytest.raises(PromptRefused):
                await services.runs.edit(ANNA, run.conversation_id, run.prompt_id, text, writer.agent)
        assert await stored(services, run.conversation_id) == ["hello", "reply 1"]

    async def test_only_prompts_of_ones_own_conversation_can_be_edited(
        self, services: Services, writer: Writer
    ) -> None:
        run, other = await answer(services, writer.agent, "hello"), await answer(services, writer.agent, "other")
        c = run.conversation_id
        for entry in (other.prompt_id, run.reply_id, "missing", ""):
            with pytest.raises(MessageMissing):
                await services.runs.edit(ANNA, c, entry, "mine", writer.agent)
            with pytest.raises(MessageMissing):
                await services.runs.retry(ANNA, c, writer.agent, entry)
            with pytest.raises(MessageMissing):
                await services.versions.switch(ANNA, c, entry, "prompt", 1)
        for conversation in (c, "missing"):
            with pytest.raises(ConversationMissing):
                await services.runs.edit(BEN, conversation, run.prompt_id, "mine", writer.agent)
            with pytest.raises(ConversationMissing):
                await services.versions.switch(BEN, conversation, run.prompt_id, "reply", 1)
            with pytest.raises(ConversationMissing):
                await services.versions.take_back(BEN, conversation, run.prompt_id)
            with pytest.raises(ConversationMissing):
                await services.versions.bring_back(BEN, conversation)
            with pytest.raises(ConversationMissing):
                await services.versions.fork(BEN, conversation, run.prompt_id)
        assert await stored(services, c) == ["hello", "reply 1"]


@pytest.mark.anyio
class TestVersions:
    async def test_a_reply_is_retried_with_another_model_for_this_once(
        self, services: Services, writer: Writer
    ) -> None:
        run = await answer(services, writer.agent, "hello")
        c = run.conversation_id
        await done(await services.runs.retry(ANNA, c, writer.agent, run.prompt_id, "other"))
        await answer(services, writer.agent, "and now?", c)
        entries = await services.store.load_entries(c) or []
        assert [getattr(entry.message, "model_name", None) for entry in entries] == [None, "other", None, "writer"]

    async def test_each_version_of_a_reply_keeps_how_it_ended(self, services: Services, pen: Pen) -> None:
        run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
        pen.write("Hi ")
        await pen.asked.get()
        while not run.partial.messages():
            await run.after(run.version)
        run.stop()
        await done(run)
        pen.end("Hello.")
        await done(await services.runs.retry(ANNA, run.conversation_id, pen.chat_agent))
        whole = await shown(services, run.conversation_id)
        assert options(whole) == []
        await services.versions.switch(ANNA, run.conversation_id, run.prompt_id, "reply", 1)
        stopped = await shown(services, run.conversation_id)
        assert stopped.messages[-1]["content"][0]["text"] == f"*{STOPPED.sentence}*"
        assert options(stopped) == ["retry", "continue"]
        await services.versions.switch(ANNA, run.conversation_id, run.prompt_id, "reply", 2)
        assert (await shown(services, run.conversation_id)).messages == whole.messages

    async def test_what_waits_for_a_decision_waits_in_its_version_until_one_comes_back(
        self, services: Services, tmp_path: Path
    ) -> None:
        office = Office([("send", {"to": "ann"})])
        office.release.set()
        run, view = await paused(services, office)
        c = run.conversation_id
        await done(await services.runs.retry(ANNA, c, office.agent))
        assert not (await shown(services, c)).pending
        await services.versions.switch(ANNA, c, run.prompt_id, "reply", 1)
        again = await shown(services, c)
        assert again.pending == view.pending
        await services.versions.take_back(ANNA, c, run.prompt_id)
        assert not (await shown(services, c)).pending
        await services.versions.bring_back(ANNA, c)
        await answer(services, office.agent, "elsewhere")
        again = await shown(services, c)
        await decide(services, office, again, decision(again.pending[0]))
        assert office.sent == ["ann"]
        assert (await shown(services, c)).turns[0].turn.answered == (1, 2)

    async def test_nothing_is_changed_while_a_reply_is_written(self, services: Services, pen: Pen) -> None:
        pen.end("Hi.")
        first = await answer(services, pen.chat_agent, "hello")
        c = first.conversation_id
        run = await services.runs.send(ANNA, c, "how are you?", pen.chat_agent)
        for change in (
            services.runs.edit(ANNA, c, first.prompt_id, "bye", pen.chat_agent),
            services.runs.retry(ANNA, c, pen.chat_agent, first.prompt_id),
            services.versions.switch(ANNA, c, first.prompt_id, "prompt", 1),
            services.versions.take_back(ANNA, c, run.prompt_id),
            services.versions.bring_back(ANNA, c),
        ):
            with pytest.raises(ConversationBusy, match="Wait for it, or stop it"):
                await change
        pen.end("Fine.")
        await done(run)
        assert await stored(services, c) == ["hello", "Hi.", "how are you?", "Fine."]

    async def test_a_turn_is_taken_back_once_however_often_it_is_asked_for(
        self, services: Services, writer: Writer
    ) -> None:
        c = (await answer(services, writer.agent, "one")).conversation_id
        second = await answer(services, writer.agent, "two", c)
        await services.versions.take_back(ANNA, c, second.prompt_id)
        with pytest.raises(NotNewest):
            await services.versions.take_back(ANNA, c, second.prompt_id)
        assert await stored(services, c) == ["one", "reply 1"]

    async def test_versions_that_a_script_made_are_versions_too(self, services: Services, writer: Writer) -> None:
        c = (await answer(services, writer.agent, "one")).conversation_id
        record = await services.store.read_record(c)
        assert record is not None
        branch = await services.store.branch(c, at=0, expected_revision=record.revision, scope=ANNA)
        branch.messages.append(ModelRequest([UserPromptPart("by a script")]))
        await services.store.save(branch, scope=ANNA)
        [turn] = (await shown(services, c)).turns
        assert turn.turn.asked == (2, 2)
        await services.versions.switch(ANNA, c, turn.turn.prompt, "prompt", 1)
        assert await stored(services, c) == ["one", "reply 1"]

    async def test_conversations_of_older_databases_have_their_versions(
        self, services: Services, writer: Writer
    ) -> None:
        run = await answer(services, writer.agent, "one")
        c = run.conversation_id
        await done(await services.runs.retry(ANNA, c, writer.agent))
        fork = await services.versions.fork(ANNA, c, run.prompt_id)
        await answer(services, writer.agent, "in the fork", fork)
        query = "SELECT id, stored_by FROM entry ORDER BY id"
        before = [tuple(row) for row in await services.database.rows(query)]
        assert {stored_by for _, stored_by in before} == {c, fork}
        [fill] = [each for version in MIGRATIONS for each in version if "SET stored_by" in each]
        await services.database.change(lambda change: change.execute("UPDATE entry SET stored_by = NULL"))
        await services.database.change(lambda change: change.execute(fill))
        assert [tuple(row) for row in await services.database.rows(query)] == before

    @pytest.mark.parametrize("number", [0, -1, 3, 10**9])
    async def test_a_version_that_is_not_there_is_refused(
        self, services: Services, writer: Writer, number: int
    ) -> None:
        run = await answer(services, writer.agent, "one")
        await done(await services.runs.retry(ANNA, run.conversation_id, writer.agent))
        with pytest.raises(MessageMissing):
            await services.versions.switch(ANNA, run.conversation_id, run.prompt_id, "reply", number)

    async def test_showing_a_conversation_costs_the_same_with_a_hundred_versions_of_another_turn(
        self, services: Services, writer: Writer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = await answer(services, writer.agent, "first")
        c = first.conversation_id
        for number in range(8):
            await answer(services, writer.agent, f"prompt {number}", c)
        work = Work(monkeypatch)
        await shown(services, c)
        statements, rows = len(work.statements), work.rows
        for _ in range(100):
            record = await services.store.read_record(c)
            assert record is not None
            [reply] = await services.store.continue_at(record, first.prompt_id, [ModelResponse([TextPart("again")])])
            assert reply.id
        await services.versions.switch(ANNA, c, first.prompt_id, "reply", 1)
        work.reset()
        assert len((await shown(services, c)).messages) == 10
        assert (len(work.statements), work.rows) == (statements, rows)


@pytest.mark.anyio
class TestForking:
    async def test_a_fork_has_the_title_the_settings_and_the_messages_and_shares_the_rows(
        self, services: Services, writer: Writer
    ) -> None:
        run = await answer(services, writer.agent, "hello")
        c = run.conversation_id
        await services.library.title_from_prompt(ANNA, c, "hello")
        await services.choices.write(ANNA, c, Choice(instructions="Rhyme."))
        await answer(services, writer.agent, "more", c)
        before = await services.database.rows("SELECT id FROM entry")
        fork = await services.versions.fork(ANNA, c, run.reply_id)
        assert await services.database.rows("SELECT id FROM entry") == before
        assert await stored(services, fork) == ["hello", "reply 1"]
        [(title,)] = await services.database.rows("SELECT title FROM title WHERE conversation_id = ?", (fork,))
        assert title == "hello (fork)"
        assert await services.choices.read(ANNA, fork) == Choice(instructions="Rhyme.")
        await services.store.delete(c, scope=ANNA)
        await answer(services, writer.agent, "go on", fork)
        assert await stored(services, fork) == ["hello", "reply 1", "go on", "reply 3"]

    async def test_a_fork_at_a_prompt_shows_it_as_it_is_and_it_can_be_answered(
        self, services: Services, writer: Writer
    ) -> None:
        run = await answer(services, writer.agent, "hello")
        fork = await services.versions.fork(ANNA, run.conversation_id, run.prompt_id)
        view = await shown(services, fork)
        assert [message["content"][0]["text"] for message in view.messages] == ["hello"]
        assert view.turns[-1].reply_at is None
        await done(await services.runs.retry(ANNA, fork, writer.agent, run.prompt_id))
        assert await stored(services, fork) == ["hello", "reply 2"]

    async def test_a_call_that_waits_is_not_forked_so_that_it_is_never_made_twice(self, services: Services) -> None:
        run, _ = await paused(services, Office([("send", {"to": "ann"})]))
        entries = await services.store.load_entries(run.conversation_id) or []
        fork = await services.versions.fork(ANNA, run.conversation_id, entries[-1].id)
        assert not (await shown(services, fork)).pending
        assert (await shown(services, run.conversation_id)).pending

    async def test_only_entries_of_ones_own_conversation_are_forked(self, services: Services, writer: Writer) -> None:
        run, other = await answer(services, writer.agent, "hello"), await answer(services, writer.agent, "other")
        for entry in (other.prompt_id, "missing"):
            with pytest.raises(MessageMissing):
                await services.versions.fork(ANNA, run.conversation_id, entry)


class TestOnThePage:
    def test_edit_retry_and_switch_are_seen_in_both_tabs_and_after_a_restart(
        self, lasting_chat: Chat, visitor: BrowserContext
    ) -> None:
        page = open_page(visitor, lasting_chat.url)
        ask(page, "echo one")
        ask(page, "echo two")
        other = open_page(visitor, page.url)
        row(page, "echo one").get_by_label("Edit").click()
        form = page.get_by_label("Edit the message")
        expect(form).to_have_value("echo one")
        form.fill("echo uno")
        form.press("Enter")
        for each in (page, other):
            expect(each.locator(".bot.message")).to_have_text(["uno"])
            expect(row(each, "echo uno")).to_contain_text("2/2")
        page.get_by_label("Retry", exact=True).click()
        expect(other.locator(".versions")).to_have_text(["2/2", "2/2"])
        row(other, "echo uno").get_by_label("Previous version").click()
        for each in (page, other):
            expect(each.locator(".bot.message")).to_have_text(["one", "two"])
        lasting_chat.kill()
        lasting_chat.start()
        page = open_again(page)
        expect(page.locator(".bot.message")).to_have_text(["one", "two"])
        row(page, "echo one").get_by_label("Next version").click()
        expect(page.locator(".bot.message")).to_have_text(["uno"])
        expect(page.locator(".versions")).to_have_text(["2/2", "2/2"])
        ask(page, "turns")
        assert replies(page) == ["uno", "2 turns"]

    def test_what_is_taken_back_is_in_the_box_again_and_can_be_brought_back(self, page: Page) -> None:
        ask(page, "echo the only one")
        page.get_by_label("Take back").click()
        expect(page.locator("#message textarea")).to_have_value("echo the only one")
        expect(page.locator("#conversation")).to_contain_text("Ask anything.")
        page.get_by_role("button", name="Bring it back").click()
        expect(page.locator(".bot.message")).to_have_text("the only one")
        expect(page.get_by_role("button", name="Bring it back")).not_to_be_visible()

    def test_what_is_taken_back_has_its_files_again(self, page: Page) -> None:
        page.locator("#message input[type=file]").set_input_files(
            [
                {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"some notes"},
                {"name": "map.png", "mimeType": "image/png", "buffer": picture()},
            ]
        )
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(2)
        ask(page, "files")
        before = replies(page)
        page.get_by_label("Take back").click()
        expect(page.locator("#message .thumbnail-wrapper")).to_have_count(2)
        expect(page.locator("#message textarea")).to_have_value("files")
        page.locator("#message textarea").press("Enter")
        expect(page.locator(".bot.message")).to_contain_text("some notes")
        assert replies(page) == before

    def test_a_fork_at_a_prompt_is_answered_on_demand(self, page: Page) -> None:
        ask(page, "echo one")
        row(page, "echo one").get_by_label("Fork from here").click()
        expect(page.locator("#conversations")).to_contain_text("echo one (fork)")
        expect(page.locator(".bot.message")).to_have_count(0)
        page.get_by_role("button", name="Get a reply").click()
        expect(page.locator(".bot.message")).to_have_text(["one"])

    def test_a_fork_opens_and_the_conversation_stays_as_it_was(self, page: Page) -> None:
        ask(page, "echo one")
        ask(page, "echo two")
        address = page.url
        page.locator("[data-testid=bot]").first.hover()
        page.get_by_label("Fork from here").nth(1).click()
        expect(page.locator(".bot.message")).to_have_text(["one"])
        expect(page.locator("#conversations")).to_contain_text("echo one (fork)")
        assert page.url != address
        page.go_back()
        expect(page.locator(".bot.message")).to_have_text(["one", "two"])

    def test_an_edit_can_be_left_by_escape_and_what_cannot_be_sent_stays_in_its_box(self, page: Page) -> None:
        ask(page, "echo one")
        row(page, "echo one").get_by_label("Edit").click()
        page.get_by_label("Edit the message").fill(" ")
        page.locator(".message-edit").get_by_role("button", name="Send").click()
        expect(page.locator(".toast-wrap")).to_contain_text("Type a message first.")
        page.get_by_label("Edit the message").press("Escape")
        expect(page.get_by_label("Edit the message")).to_have_count(0)
        expect(page.locator("[data-testid=user]")).to_be_visible()
        assert replies(page) == ["one"]

    def test_a_message_has_an_address_to_copy(self, page: Page, visitor: BrowserContext) -> None:
        visitor.grant_permissions(["clipboard-read", "clipboard-write"])
        ask(page, "echo one")
        page.get_by_label("Copy link").last.click()
        page.wait_for_function("navigator.clipboard.readText().then((text) => text.includes('&m='))")
        linked = open_page(visitor, page.evaluate("navigator.clipboard.readText()"))
        expect(linked.locator(".bot-row.found")).to_contain_text("one")
        ask(linked, "echo two")
        assert "m=" not in linked.url  # Else a reload would lead back to it.


@pytest.fixture(scope="module")
def lasting_chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """A chat that a test can end."""
    chat = Chat(tmp_path_factory.mktemp("lasting"), "--agent", "tests.scripted:agent")
    yield chat
    chat.kill()


def row(page: Page, prompt: str) -> Locator:
    """The actions at a prompt."""
    page.locator(".user-row", has_text=prompt).hover()
    return page.locator(f".user-row:has-text('{prompt}') + .message-buttons")
