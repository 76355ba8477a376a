"""What people think of replies is kept with the very reply, for its owner alone."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from chat.feedback import LONGEST_COMMENT, Opinion, Rating, ReplyMissing
from chat.services import Services, open_services
from tests.browser import Chat, ask, open_page
from tests.test_runs import ANNA, BEN, Pen, answer, done, settings, shown


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(settings(tmp_path / "chat.db")) as services:
        yield services


async def given(services: Services, entry_id: str) -> tuple[str, str, str | None] | None:
    rating: Rating | None = (await services.feedback.of(ANNA, [entry_id, "another"])).get(entry_id)
    return None if rating is None else (rating.verdict, rating.comment, rating.model)


@pytest.mark.anyio
class TestGiving:
    async def test_it_is_kept_with_the_model_can_be_changed_and_removed(self, services: Services) -> None:
        pen = Pen()
        pen.end("Hi.")
        run = await answer(services, pen.chat_agent, "hello")
        place = (ANNA, run.conversation_id, run.reply_id)
        await services.feedback.give(*place, Opinion(verdict="up"))
        assert await given(services, run.reply_id) == ("up", "", "pen")
        await services.feedback.give(*place, Opinion(verdict="down", comment=" Too short. "))
        assert await given(services, run.reply_id) == ("down", "Too short.", "pen")
        await services.feedback.give(*place, Opinion())
        assert await given(services, run.reply_id) is None

    async def test_it_belongs_to_one_version_of_a_reply(self, services: Services) -> None:
        pen = Pen()
        pen.end("Hi.")
        run = await answer(services, pen.chat_agent, "hello")
        c = run.conversation_id
        await services.feedback.give(ANNA, c, run.reply_id, Opinion(verdict="down"))
        pen.end("Hello.")
        await done(await services.runs.retry(ANNA, c, pen.chat_agent))
        assert (await shown(services, c)).turns[0].rating is None
        await services.versions.switch(ANNA, c, run.prompt_id, "reply", 1)
        rating = (await shown(services, c)).turns[0].rating
        assert rating is not None
        assert rating.verdict == "down"

    async def test_only_replies_of_ones_own_conversation_take_it_and_nobody_else_reads_it(
        self, services: Services
    ) -> None:
        pen = Pen()
        for text in ("Hi.", "Other."):
            pen.end(text)
        run, other = [await answer(services, pen.chat_agent, "hello") for _ in range(2)]
        c = run.conversation_id
        for owner, conversation, entry in (
            (BEN, c, run.reply_id),
            (ANNA, c, other.reply_id),
            (ANNA, c, run.prompt_id),
            (ANNA, "missing", run.reply_id),
            (ANNA, c, "missing"),
        ):
            with pytest.raises(ReplyMissing):
                await services.feedback.give(owner, conversation, entry, Opinion(verdict="up"))
        await services.feedback.give(ANNA, c, run.reply_id, Opinion(verdict="up"))
        assert await services.feedback.of(BEN, [run.reply_id]) == {}

    async def test_it_goes_with_its_reply(self, services: Services) -> None:
        pen = Pen()
        pen.end("Hi.")
        run = await answer(services, pen.chat_agent, "hello")
        await services.feedback.give(ANNA, run.conversation_id, run.reply_id, Opinion(verdict="up"))
        await services.store.delete(run.conversation_id, scope=ANNA)
        assert await services.database.rows("SELECT * FROM feedback") == []


def test_a_request_that_cannot_be_read_is_refused_in_one_sentence(chat: Chat) -> None:
    with httpx.Client(base_url=chat.url) as client:
        client.get("/")
        address = "/parley/feedback/none/none"
        long = {"verdict": "up", "comment": "x" * (LONGEST_COMMENT + 1)}
        for body in (b"", b"{", b"[]", b'{"verdict": "sideways"}', json.dumps(long).encode(), b"x" * 1_000_000):
            answer = client.put(address, content=body)
            assert answer.status_code == 400
            assert answer.json()["error"].endswith(".")
        answer = client.put(address, json={"verdict": "up"})
        assert (answer.status_code, answer.json()) == (404, {"error": "This reply does not exist."})


def test_a_thumb_and_a_comment_are_there_after_a_reload_and_can_be_taken_back(
    page: Page, visitor: BrowserContext
) -> None:
    ask(page, "echo one")
    page.get_by_label("Bad reply").click()
    page.get_by_label("Comment on the reply").fill('Too <b>short</b> & "plain"')
    page.get_by_label("Comment on the reply").press("Enter")
    expect(page.get_by_title("Change the comment")).to_have_text('Too <b>short</b> & "plain"')
    again = open_page(visitor, page.url)
    expect(again.get_by_label("Bad reply")).to_have_attribute("aria-pressed", "true")
    expect(again.get_by_title("Change the comment")).to_have_text('Too <b>short</b> & "plain"')
    again.get_by_label("Bad reply").click()
    expect(again.get_by_label("Bad reply")).to_have_attribute("aria-pressed", "false")
    again.reload()
    expect(again.get_by_label("Bad reply")).to_have_attribute("aria-pressed", "false")
