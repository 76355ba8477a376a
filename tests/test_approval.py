"""Tools that wait for a person: a decision counts once, for exactly what was shown, and only from its owner."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pydantic_ai import Agent, CallDeferred, DeferredToolRequests, ModelMessage, Tool
from pydantic_ai.messages import ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from chat.decisions import Decision, DecisionRefused, PendingCall, decisions_from_page
from chat.identity import Owner
from chat.models import ChatAgent, ChatModel
from chat.runs import ConversationBusy, ConversationMissing, Run
from chat.services import Services, open_services
from chat.store import SQLiteConversationStore
from chat.tool_render import WAITING
from chat.view import View, watch
from tests.anything import ANYTHING, objects
from tests.browser import Chat, ask, open_again, open_page, replies, send
from tests.test_runs import ANNA, BEN, Checkpoints, answer, as_if_killed, done, outcome, settings, shown, soon


@dataclass
class Office:
    """An agent whose tools wait for a person, and what they were really called with."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    sent: list[str] = field(default_factory=list[str])
    seen: list[list[ModelMessage]] = field(default_factory=list[list[ModelMessage]])
    release: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def agent(self) -> ChatAgent:
        tools = [Tool(self.send, requires_approval=True), Tool(self.ask), Tool(self.measure), Tool(self.look)]
        agent = Agent(FunctionModel(stream_function=self._script, model_name="office"), tools=tools)
        return ChatAgent(agent, (ChatModel("office"),))

    async def send(self, to: str) -> str:
        self.sent.append(to)
        self.entered.set()
        await self.release.wait()
        return f"Sent to {to}."

    def ask(self, question: str) -> str:
        raise CallDeferred(kind="question")

    def measure(self, what: str) -> str:
        raise CallDeferred

    def look(self) -> str:
        return "seen"

    async def _script(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.seen.append(messages)
        returns = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        prompted = any(isinstance(part, UserPromptPart) for part in messages[-1].parts)
        if prompted and self.calls:
            yield "Wait. "
            for index, (name, arguments) in enumerate(self.calls, start=1):
                yield {index: DeltaToolCall(name=name, json_args=json.dumps(arguments), tool_call_id=f"call-{index}")}
            self.calls = []
        else:
            yield "Fine." if prompted else "; ".join(f"{part.outcome}: {part.content}" for part in returns)


@pytest.fixture
def office() -> Office:
    office = Office([("send", {"to": "ann"})])
    office.release.set()
    return office


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
async def services(path: Path) -> AsyncIterator[Services]:
    async with open_services(settings(path)) as services:
        yield services


def decision(call: PendingCall, verdict: str = "approve", **more: object) -> Decision:
    [made] = decisions_from_page([{"id": call.id, "fingerprint": call.fingerprint, "verdict": verdict, **more}])
    return made


async def paused(services: Services, office: Office) -> tuple[Run, View]:
    run = await answer(services, office.agent, "go")
    view = await shown(services, run.conversation_id)
    assert view.pending
    return run, view


async def decide(
    services: Services, office: Office, view: View, *decisions: Decision, owner: Owner = ANNA, token: str | None = None
) -> Run:
    assert view.conversation is not None
    run = await services.runs.decide(owner, view.conversation, token or view.token or "", decisions, office.agent)
    await done(run)
    return run


async def parts(services: Services, conversation_id: str) -> list[str]:
    """The conversation's parts, in short."""
    entries = await services.store.load_entries(conversation_id, scope=ANNA) or []
    return [
        f"{part.part_kind}: {getattr(part, 'tool_call_id', None) or part.content}"
        for entry in entries
        for part in entry.message.parts
    ]


def words(view: View) -> list[str]:
    return [message["content"][0]["text"] for message in view.messages]


@pytest.mark.anyio
async def test_a_plain_agent_pauses_and_shows_what_would_be_called_with_which_arguments(
    services: Services, office: Office
) -> None:
    run, view = await paused(services, office)
    assert [(call.tool, call.arguments, call.kind) for call in view.pending] == [
        ("send", '{\n  "to": "ann"\n}', "approval")
    ]
    assert view.phase == "idle"
    assert view.messages[-1]["metadata"].get("log") == WAITING
    assert "duration" not in view.messages[-1]["metadata"]
    assert "options" not in view.messages[-1]
    assert await outcome(services, run) is None
    assert office.sent == []


@pytest.mark.anyio
async def test_an_approved_call_runs_and_the_same_turn_goes_on(services: Services, office: Office) -> None:
    before, view = await paused(services, office)
    run = await decide(services, office, view, decision(view.pending[0]))
    assert run.prompt_id == before.prompt_id
    assert office.sent == ["ann"]
    after = await shown(services, run.conversation_id)
    assert not after.pending
    assert words(after)[0] == "go"
    assert words(after)[-1] == "success: Sent to ann."
    assert await parts(services, run.conversation_id) == [
        "user-prompt: go",
        "text: Wait. ",
        "tool-call: call-1",
        "tool-return: call-1",
        "text: success: Sent to ann.",
    ]


@pytest.mark.anyio
async def test_while_it_goes_on_the_turn_is_shown_whole(services: Services, office: Office) -> None:
    _, view = await paused(services, office)
    office.release.clear()
    assert view.conversation is not None
    run = await services.runs.decide(
        ANNA, view.conversation, view.token or "", [decision(view.pending[0])], office.agent
    )
    await soon(office.entered.wait())
    async with aclosing(watch(services, ANNA, view.conversation)) as views:
        live = await anext(views)
    assert words(live)[:2] == ["go", "Wait. "]
    assert live.messages[-1]["metadata"].get("log") == "running"
    assert not live.pending
    assert sum(live.counts) == len(live.messages)
    with pytest.raises(ConversationBusy):
        await decide(services, office, view, decision(view.pending[0]))
    office.release.set()
    await done(run)
    assert office.sent == ["ann"]


@pytest.mark.anyio
async def test_a_call_is_made_with_the_edited_arguments(services: Services, office: Office) -> None:
    _, view = await paused(services, office)
    await decide(services, office, view, decision(view.pending[0], arguments='{"to": "zoe"}'))
    assert office.sent == ["zoe"]
    block = next(text for text in words(await shown(services, view.conversation or "")) if "Sent to zoe" in text)
    assert (
        block.index('"to": "ann"') < block.index("Approved with") < block.index('"to": "zoe"') < block.index("Result")
    )


@pytest.mark.anyio
async def test_a_denied_call_is_not_made_and_the_agent_is_told_why(services: Services, office: Office) -> None:
    _, view = await paused(services, office)
    run = await decide(services, office, view, decision(view.pending[0], "deny", text="Not to her."))
    assert office.sent == []
    assert words(await shown(services, run.conversation_id))[-1] == "denied: Not to her."


@pytest.mark.anyio
async def test_calls_of_all_kinds_are_decided_together_beside_one_that_waits_for_nobody(services: Services) -> None:
    office = Office(
        [
            ("send", {"to": "a"}),
            ("look", {}),
            ("ask", {"question": "Who?"}),
            ("measure", {"what": "t"}),
            ("send", {"to": "b"}),
        ]
    )
    office.release.set()
    _, view = await paused(services, office)
    assert [(call.id, call.kind, call.question) for call in view.pending] == [
        ("call-1", "approval", ""),
        ("call-5", "approval", ""),
        ("call-3", "question", "Who?"),
        ("call-4", "external", ""),
    ]
    first, second, question, external = view.pending
    decisions = [
        decision(second, "deny"),
        decision(first),
        decision(question, "answer", text="12"),
        decision(external, "answer", text='{"celsius": 12}'),
    ]
    run = await decide(services, office, view, *decisions)
    assert office.sent == ["a"]
    returned = {
        part.tool_call_id: part.content
        for message in office.seen[-1]
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    }
    assert returned == {
        "call-1": "Sent to a.",
        "call-2": "seen",
        "call-3": "12",
        "call-4": {"celsius": 12},
        "call-5": "The tool call was denied.",
    }
    assert await outcome(services, run) is None


@pytest.mark.parametrize(
    "forged",
    [
        {"fingerprint": "0" * 64},
        {"id": "call-9"},
        {"verdict": "answer"},
        {"arguments": "[1]"},
        {"arguments": "{"},
        {"arguments": '{"to": NaN}'},
    ],
)
@pytest.mark.anyio
async def test_a_forged_decision_is_refused_and_changes_nothing(
    services: Services, office: Office, forged: dict[str, str]
) -> None:
    _, view = await paused(services, office)
    with pytest.raises(DecisionRefused):
        await decide(services, office, view, decision(view.pending[0]).model_copy(update=forged))
    assert await shown(services, view.conversation or "") == view
    assert office.sent == []
    await decide(services, office, view, decision(view.pending[0]))
    assert office.sent == ["ann"]


@pytest.mark.parametrize(
    "sent", [None, {}, [{}], [{"id": 1}], "approve", [{"id": "a", "fingerprint": "b", "verdict": "yes"}]]
)
def test_what_is_no_decision_is_refused(sent: object) -> None:
    with pytest.raises(DecisionRefused):
        decisions_from_page(sent)


@pytest.mark.anyio
async def test_a_decision_missing_or_twice_is_refused(services: Services, office: Office) -> None:
    office.calls.append(("send", {"to": "ben"}))
    _, view = await paused(services, office)
    first = decision(view.pending[0])
    for decisions in ([first], [first, first], []):
        with pytest.raises(DecisionRefused):
            await decide(services, office, view, *decisions)
    assert office.sent == []


@pytest.mark.anyio
async def test_a_replayed_decision_has_no_effect(services: Services, office: Office) -> None:
    _, view = await paused(services, office)
    made = decision(view.pending[0])
    await decide(services, office, view, made)
    with pytest.raises(DecisionRefused):
        await decide(services, office, view, made)
    office.calls = [("send", {"to": "ann"})]  # The very same call again is another one.
    await answer(services, office.agent, "again", view.conversation)
    again = await shown(services, view.conversation or "")
    assert again.pending == view.pending
    with pytest.raises(DecisionRefused):
        await decide(services, office, view, made)
    assert office.sent == ["ann"]


@pytest.mark.anyio
async def test_of_two_decisions_at_once_one_counts(services: Services, office: Office) -> None:
    _, view = await paused(services, office)
    made = decision(view.pending[0])
    results = await asyncio.gather(*(decide(services, office, view, made) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, Run) for result in results) == 1
    assert office.sent == ["ann"]


@pytest.mark.anyio
async def test_somebody_elses_decision_has_no_effect(services: Services, office: Office) -> None:
    _, view = await paused(services, office)
    with pytest.raises(ConversationMissing):
        await decide(services, office, view, decision(view.pending[0]), owner=BEN)
    assert await shown(services, view.conversation or "") == view
    assert office.sent == []


@pytest.mark.anyio
async def test_a_message_instead_denies_what_waits_and_is_answered(services: Services, office: Office) -> None:
    _, view = await paused(services, office)
    run = await answer(services, office.agent, "never mind", view.conversation)
    assert office.sent == []
    assert await outcome(services, run) is None
    after = await shown(services, run.conversation_id)
    assert not after.pending
    assert words(after)[-1] == "Fine."
    assert [m["metadata"].get("log") for m in after.messages if "title" in m["metadata"]] == ["denied"]
    assert await parts(services, run.conversation_id) == [
        "user-prompt: go",
        "text: Wait. ",
        "tool-call: call-1",
        "tool-return: call-1",
        "user-prompt: never mind",
        "text: Fine.",
    ]
    with pytest.raises(DecisionRefused):
        await decide(services, office, view, decision(view.pending[0]))


@pytest.mark.anyio
async def test_a_retry_asks_again_and_the_old_decision_is_worth_nothing(services: Services, office: Office) -> None:
    _, view = await paused(services, office)
    office.calls = [("send", {"to": "zoe"})]
    await done(await services.runs.retry(ANNA, view.conversation or "", office.agent))
    with pytest.raises(DecisionRefused):
        await decide(services, office, view, decision(view.pending[0]))
    again = await shown(services, view.conversation or "")
    await decide(services, office, again, decision(again.pending[0]))
    assert office.sent == ["zoe"]


@pytest.mark.anyio
async def test_the_pause_survives_a_kill(services: Services, office: Office, path: Path) -> None:
    _, view = await paused(services, office)
    async with open_services(settings(as_if_killed(path))) as restarted:
        again = await shown(restarted, view.conversation or "")
        assert again == view
        await decide(restarted, office, again, decision(again.pending[0]))
    assert office.sent == ["ann"]


@pytest.mark.anyio
async def test_a_kill_between_the_pause_and_its_clearing_up_leaves_it_waiting(
    path: Path, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []
    save = SQLiteConversationStore.save

    async def save_and_copy(self: SQLiteConversationStore, conversation: Any, **arguments: Any) -> Any:
        saved = await save(self, conversation, **arguments)
        copies.append(as_if_killed(path).rename(path.with_name(f"{len(copies)}.db")))
        return saved

    monkeypatch.setattr(SQLiteConversationStore, "save", save_and_copy)
    async with open_services(settings(path)) as services:
        run, view = await paused(services, office)
    async with open_services(settings(copies[-1])) as restarted:
        again = await shown(restarted, run.conversation_id)
        assert again.pending == view.pending
        assert await outcome(restarted, run) is None


@pytest.mark.anyio
async def test_a_kill_while_the_approved_call_runs_keeps_the_turn_and_runs_nothing_again(
    services: Services, office: Office, path: Path
) -> None:
    _, view = await paused(services, office)
    office.release.clear()
    made = decision(view.pending[0])
    run = await services.runs.decide(ANNA, view.conversation or "", view.token or "", [made], office.agent)
    await soon(office.entered.wait())
    async with open_services(settings(as_if_killed(path))) as restarted:
        again = await shown(restarted, run.conversation_id)
        assert not again.pending
        assert words(again)[0] == "go"
        assert again.messages[2]["metadata"].get("log") == "interrupted"
        assert [option["value"] for option in again.messages[-1].get("options", [])] == ["retry", "continue"]
        with pytest.raises(DecisionRefused):
            await decide(restarted, office, view, made)
        await answer(restarted, office.agent, "and now?", run.conversation_id)
        assert words(await shown(restarted, run.conversation_id))[-1] == "Fine."
    office.release.set()
    await done(run)
    assert office.sent == ["ann"]


@pytest.mark.anyio
async def test_a_kill_after_the_approved_call_returned_keeps_its_result_once(
    services: Services, office: Office, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(monkeypatch)
    written = asyncio.Event()
    finish = asyncio.Event()

    class Slow(Office):
        async def _script(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
            if any(isinstance(message, ModelResponse) for message in messages):
                yield "It was sent "
                written.set()
                await finish.wait()
            else:
                async for piece in super()._script(messages, info):
                    yield piece

    slow = Slow(office.calls)
    slow.release.set()
    before, view = await paused(services, slow)
    made = decision(view.pending[0])
    run = await services.runs.decide(ANNA, view.conversation or "", view.token or "", [made], slow.agent)
    await soon(written.wait())
    await checkpoints.hold(services, "It was sent")
    killed = as_if_killed(path)
    for _ in range(2):  # The second start finds everything in its place.
        async with open_services(settings(killed)) as restarted:
            assert await parts(restarted, run.conversation_id) == [
                "user-prompt: go",
                "text: Wait. ",
                "tool-call: call-1",
                "tool-return: call-1",
                "text: It was sent ",
            ]
            ended = await outcome(restarted, before)
            assert ended is not None
            assert ended.kind == "interrupted"
    finish.set()
    await done(run)
    assert slow.sent == ["ann"]


@pytest.mark.anyio
async def test_only_an_agent_with_an_output_validator_keeps_its_own_output_types() -> None:
    async def outputs(agent: Agent[Any, Any]) -> object:
        chat_agent = ChatAgent(agent, (ChatModel("test"),))
        return (await chat_agent.run_arguments("visitor:anna", "c")).get("output_type")

    validated = Agent("test")
    validated.output_validator(lambda output: output)
    assert await outputs(Agent("test")) == [str, DeferredToolRequests]
    assert await outputs(Agent("test", output_type=[str, int])) == [str, int, DeferredToolRequests]
    assert await outputs(Agent("test", output_type=[str, DeferredToolRequests])) is None
    assert await outputs(validated) is None


# In a browser


def form(page: Page) -> Any:
    return page.locator("#decisions-form")


def settled(page: Page, text: str) -> None:
    """Wait until the reply is complete, with this in it."""
    expect(page.locator(".bot.message").last).to_contain_text(text)
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")


def act(page: Page, label: str, call: str = "send_mail") -> None:
    page.get_by_role("button", name=f"{label}: {call}", exact=True).click()


class TestForm:
    def test_what_waits_survives_reload_and_kill_and_runs_with_the_edited_arguments(
        self, start_chat: Callable[..., Chat], visitor: BrowserContext
    ) -> None:
        chat = start_chat("--agent", "tests.scripted:agent")
        page = open_page(visitor, chat.url)
        ask(page, "approve")
        expect(form(page)).to_contain_text("send_mail wants to run")
        expect(form(page).locator("pre")).to_contain_text("Hello <b>Ann</b> {{value}}")
        expect(page.locator(".thought-group")).to_contain_text(WAITING)
        page.reload()
        expect(form(page)).to_contain_text("ann@example.com")
        page.locator("#new-chat").click()
        expect(form(page)).to_be_hidden()
        ask(page, "echo meanwhile")
        assert replies(page) == ["meanwhile"]
        expect(page.locator("#conversations")).to_contain_text("echo meanwhile")
        page.locator("#conversations a").get_by_text("approve").click()
        expect(form(page)).to_contain_text("ann@example.com")
        chat.kill()
        chat.start()
        page = open_again(page)
        act(page, "Edit")
        arguments = page.get_by_role("textbox", name="Arguments of send_mail, as JSON")
        expect(arguments).to_be_focused()
        arguments.fill("{")
        act(page, "Approve as edited")
        expect(form(page).get_by_role("alert")).to_contain_text("This is not JSON")
        arguments.fill('{"to": "zoe@example.com", "text": "Hello Zoe"}')
        arguments.press("Control+Enter")
        settled(page, "success: Sent 1 to zoe@example.com.")
        expect(form(page)).to_be_hidden()
        ask(page, "sent")
        assert replies(page)[-1] == "1 sent: 'Hello Zoe' to zoe@example.com"
        expect(page.locator(".thought-group")).not_to_contain_text(WAITING)

    def test_a_denial_has_a_reason_and_escape_takes_it_back(self, page: Page) -> None:
        ask(page, "approve")
        act(page, "Deny")
        page.get_by_role("textbox", name="Why not?").press("Escape")
        act(page, "Deny")
        page.get_by_role("textbox", name="Why not?").fill("Not today.")
        page.get_by_role("textbox", name="Why not?").press("Enter")
        settled(page, "denied: Not today.")
        expect(form(page)).to_be_hidden()

    def test_what_is_typed_for_one_call_stays_while_another_is_decided(self, page: Page) -> None:
        ask(page, "approve two")
        act(page, "Edit", "send_mail, 1 of 2")
        arguments = page.get_by_role("textbox", name="Arguments of send_mail, 1 of 2, as JSON")
        arguments.fill('{"to": "zoe@example.com"}')
        act(page, "Approve", "send_mail, 2 of 2")
        expect(form(page)).to_contain_text("1 of 2 decided")
        expect(arguments).to_have_value('{"to": "zoe@example.com"}')

    def test_several_are_decided_one_by_one_or_together_and_nothing_happens_before_the_last(self, page: Page) -> None:
        ask(page, "approve two")
        act(page, "Approve", "send_mail, 1 of 2")
        expect(form(page)).to_contain_text("1 of 2 decided")
        act(page, "Change", "send_mail, 1 of 2")
        expect(form(page)).to_contain_text("0 of 2 decided")
        expect(page.locator(".thought-group").first).to_contain_text(WAITING)
        act(page, "Deny", "send_mail, 1 of 2")
        act(page, "Deny", "send_mail, 1 of 2")
        act(page, "Approve", "send_mail, 2 of 2")
        settled(page, "denied: The tool call was denied.")
        settled(page, "success: Sent 2 to ben@example.com.")
        ask(page, "approve two")
        page.get_by_role("button", name="Approve all").click()
        expect(page.locator(".bot.message").last).to_contain_text(
            "success: Sent 1 to ann@example.com.; success: Sent 2"
        )

    def test_a_decision_in_one_tab_shows_in_the_other(self, page: Page, visitor: BrowserContext) -> None:
        ask(page, "approve")
        other = open_page(visitor, page.url)
        expect(form(other)).to_contain_text("ann@example.com")
        act(page, "Approve")
        expect(form(other)).to_be_hidden()
        settled(other, "success: Sent 1 to ann@example.com.")
        settled(page, "success: Sent 1 to ann@example.com.")

    def test_a_decision_that_comes_second_is_told_so(self, page: Page, visitor: BrowserContext) -> None:
        ask(page, "approve")
        other = open_page(visitor, page.url)
        expect(form(other)).to_contain_text("ann@example.com")
        act(page, "Approve")
        settled(page, "success: Sent 1 to ann@example.com.")
        ask(page, "sent")
        count = replies(page)[-1].partition(" ")[0]
        expect(form(other)).to_be_hidden()
        ask(page, "approve")
        expect(form(other)).to_contain_text("ann@example.com")
        # The other tab sends what was decided about before.
        other.evaluate(
            "parley.deciding = (real => value => {"
            "const made = real(value); return {...made, decisions: {...made.decisions, token: 'old'}};"
            "})(parley.deciding); 0"
        )
        act(other, "Approve")
        expect(other.locator(".toast-wrap")).to_contain_text("This was decided already")
        expect(form(other).get_by_role("button", name="Approve: send_mail")).to_be_enabled()
        send(page, "sent")
        expect(page.locator(".bot.message").last).to_contain_text(f"{count} sent")

    def test_what_another_visitor_sends_for_it_has_no_effect(self, page: Page, browser: Browser, chat: Chat) -> None:
        ask(page, "sent")
        before = replies(page)[-1].partition(" ")[0]
        ask(page, "approve")
        page.evaluate(
            "parley.deciding = (real => value => {"
            "window.held = real(value); return {...held, decisions: null};"
            "})(parley.deciding); 0"
        )
        act(page, "Approve")
        expect(page.locator(".toast-wrap")).to_contain_text("This decision can't be read")
        held = page.evaluate("held")
        context = browser.new_context()
        stranger = open_page(context, chat.url)
        ask(stranger, "approve")
        stranger.evaluate("held => { parley.deciding = () => held }", held)
        act(stranger, "Approve")
        expect(stranger.locator(".toast-wrap")).to_contain_text("This conversation does not exist.")
        context.close()
        page.reload()
        expect(form(page)).to_contain_text("ann@example.com")
        ask(page, "sent")
        assert replies(page)[-1].partition(" ")[0] == before

    def test_a_question_and_an_outside_result_are_answered(self, page: Page) -> None:
        ask(page, "ask")
        expect(form(page)).to_contain_text("Which colour do you like?")
        page.get_by_role("textbox", name="Your answer").fill("Green {{value}}")
        act(page, "Answer", "ask_person")
        settled(page, "success: Green {{value}}")
        ask(page, "outside")
        page.get_by_role("textbox", name="The result, as JSON or text").fill('{"celsius": 21}')
        act(page, "Give result", "measure")
        settled(page, "success: {'celsius': 21}")

    def test_a_message_instead_denies_what_waits(self, page: Page) -> None:
        ask(page, "approve")
        ask(page, "echo something else")
        expect(form(page)).to_be_hidden()
        expect(page.locator(".thought-group")).to_contain_text("denied")
        assert replies(page)[-1] == "something else"

    def test_on_a_phone_the_form_fits_and_leaves_the_message_box_in_sight(self, chat: Chat, browser: Browser) -> None:
        context = browser.new_context(viewport={"width": 390, "height": 700})
        page = open_page(context, chat.url)
        ask(page, "approve two")
        expect(form(page)).to_be_visible()
        box = form(page).bounding_box()
        message = page.locator("#message").bounding_box()
        assert box is not None
        assert message is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= message["y"]
        assert message["y"] + message["height"] <= 700
        context.close()


@examples(max_examples=60, deadline=None)
@given(
    st.lists(objects("id", "fingerprint", "arguments", verdict=st.sampled_from(["approve", "deny"])), max_size=3)
    | ANYTHING
)
def test_whatever_a_page_sends_as_decisions_is_read_or_refused_in_one_line(sent: object) -> None:
    said, decisions = "", list[Decision]()
    try:
        decisions = decisions_from_page(sent)
    except DecisionRefused as refused:
        said = str(refused)
    assert said.isprintable()
    assert all(isinstance(decision, Decision) for decision in decisions)
