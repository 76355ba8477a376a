"""A long conversation in a real browser: what is read stays in place while messages come in above and below it."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.browser import Chat, ask, open_page, send
from tests.long import copy_of, lengthen

TURNS = 1000
SHOWN = 120
"""Messages that a page shows at most, as `chat/scroll.js` has it."""

SHOWN_MESSAGES = "#conversation [data-testid=user], #conversation [data-testid=bot]"

NODES = 6000
"""Elements that a page may have however long its conversation is: some twenty for each message that is shown."""

FIRST_SEEN = """() => {
    const box = document.querySelector("#conversation .bubble-wrap");
    const edge = box.getBoundingClientRect().top;
    const messages = [...box.querySelectorAll("[data-testid=user], [data-testid=bot]")];
    const seen = messages.find((it) => it.getBoundingClientRect().bottom > edge + 80);
    return [seen.innerText.trim().slice(0, 20), seen.getBoundingClientRect().top];
}"""

WATCH_PLACES = """() => {
    // Where each prompt is when a frame is painted: a size that changes in each frame is seen after its layout.
    const box = document.querySelector("#conversation .bubble-wrap");
    const ticker = document.body.appendChild(document.createElement("div"));
    ticker.style = "position: fixed; height: 1px";
    let width = 0;
    let before = null;
    window.moved = [];
    const tick = () => {
        ticker.style.width = `${(width = 1 - width) + 1}px`;
        requestAnimationFrame(tick);
    };
    new ResizeObserver(() => {
        const edge = box.getBoundingClientRect().top;
        const prompts = [...box.querySelectorAll("[data-testid=user]")];
        const places = new Map(prompts.map((it) => [it.innerText.trim(), it.getBoundingClientRect().top]));
        for (const [text, top] of places) {
            const was = before?.get(text);
            const inView = (place) => place > edge && place < innerHeight;
            if (Math.abs(top - was) > 2 && (inView(was) || inView(top))) moved.push([text, was, top]);
        }
        before = places;
    }).observe(ticker);
    tick();
}"""


def prompts(page: Page) -> list[str]:
    return [text.strip() for text in page.locator("#conversation [data-testid=user]").all_inner_texts()]


def scroll_up(page: Page) -> None:
    """Scroll to the top of what is shown, as a person does: a little first."""
    page.evaluate(
        """() => new Promise((done) => {
            const box = document.querySelector("#conversation .bubble-wrap");
            const twoFrames = (then) => requestAnimationFrame(() => requestAnimationFrame(then));
            box.scrollTop -= 100;
            twoFrames(() => {
                box.scrollTop = 0;
                twoFrames(done);
            });
        })"""
    )


def earlier_messages_come_in(page: Page, before: str) -> None:
    page.wait_for_function(
        "before => document.querySelector('#conversation [data-testid=user]').innerText.trim() !== before",
        arg=before,
    )
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # Painted.


def read_far_up(page: Page) -> None:
    """Until the end is no longer among what is shown."""
    while prompts(page)[-1] == f"prompt {TURNS - 1}":
        before = prompts(page)[0]
        scroll_up(page)
        earlier_messages_come_in(page, before)


@pytest.fixture(scope="module")
def reader(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor with a long conversation, which each test has a copy of."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    yield context
    context.close()


@pytest.fixture(scope="module")
def original(reader: BrowserContext, chat: Chat) -> tuple[str, list[str]]:
    """A conversation of some two thousand messages, and the ids of its prompts."""
    page = open_page(reader, chat.url)
    ask(page, "echo the very first")
    conversation_id = parse_qs(urlparse(page.url).query)["c"][0]
    page.close()
    return conversation_id, lengthen(chat.database, conversation_id, TURNS)


@pytest.fixture
def page(reader: BrowserContext, chat: Chat, original: tuple[str, list[str]]) -> Iterator[Page]:
    """A page that shows the end of it."""
    page = open_page(reader, f"{chat.url}/?c={copy_of(chat.database, original[0])}")
    expect(page.get_by_text(f"prompt {TURNS - 1}", exact=True)).to_be_in_viewport()
    yield page
    page.close()


def test_opening_a_long_conversation_shows_its_end_and_little_more(page: Page) -> None:
    assert prompts(page)[-1] == f"prompt {TURNS - 1}"
    assert page.locator(SHOWN_MESSAGES).count() <= 10
    assert page.evaluate("document.querySelectorAll('*').length") < NODES
    expect(page.locator("#newest")).not_to_be_visible()


def test_scrolling_up_leads_to_the_very_first_message_and_keeps_the_page_small(
    page: Page, original: tuple[str, list[str]]
) -> None:
    read_far_up(page)
    page.goto(f"{page.url.partition('?')[0]}?c={original[0]}&m={original[1][150]}")  # The steps between are all alike.
    expect(page.get_by_text("prompt 150", exact=True)).to_be_in_viewport()
    while "echo the very first" not in prompts(page):
        before = prompts(page)[0]
        scroll_up(page)
        earlier_messages_come_in(page, before)
        assert page.locator(SHOWN_MESSAGES).count() <= SHOWN
    assert page.evaluate("document.querySelectorAll('*').length") < NODES


def test_what_is_read_does_not_move_while_earlier_messages_come_in(page: Page) -> None:
    asked: list[Route] = []

    def hold(route: Route) -> None:
        asked.append(route)

    page.evaluate(WATCH_PLACES)
    for _ in range(5):
        first = prompts(page)[0]
        page.route("**/queue/join*", hold)  # They come in once it is known what is seen.
        scroll_up(page)
        page.evaluate("moved = []")
        before = page.evaluate(FIRST_SEEN)
        while asked:
            asked.pop().continue_()
        page.unroute("**/queue/join*")
        earlier_messages_come_in(page, first)
        assert page.evaluate(FIRST_SEEN) == before
        assert page.evaluate("moved") == []


def test_the_button_for_the_newest_messages_leads_back_to_the_end(page: Page) -> None:
    read_far_up(page)
    page.locator("#newest").click()
    expect(page.get_by_text(f"prompt {TURNS - 1}", exact=True)).to_be_in_viewport()
    expect(page.locator("#newest")).not_to_be_visible()


def test_an_address_of_a_message_opens_the_conversation_around_it(
    reader: BrowserContext, chat: Chat, original: tuple[str, list[str]]
) -> None:
    conversation_id, prompt_ids = original
    page = open_page(reader, f"{chat.url}/?c={conversation_id}&m={prompt_ids[300]}")
    expect(page.get_by_text("prompt 300", exact=True)).to_be_in_viewport()
    assert page.locator(SHOWN_MESSAGES).count() <= 45
    page.locator("#conversation .bubble-wrap").evaluate("box => (box.scrollTop = box.scrollHeight)")
    expect(page.get_by_text("prompt 325", exact=True)).to_be_attached()


def test_a_message_that_is_sent_from_far_up_is_shown_at_the_end_with_its_reply(page: Page) -> None:
    read_far_up(page)
    send(page, "echo back at the end")
    expect(page.get_by_text("back at the end", exact=True)).to_be_in_viewport()
    assert prompts(page)[-2:] == [f"prompt {TURNS - 1}", "echo back at the end"]


def test_the_end_stays_in_view_while_a_message_of_several_lines_is_typed(page: Page) -> None:
    for line in ("one", "two", "three", "four"):
        page.locator("#message textarea").press_sequentially(line)
        page.locator("#message textarea").press("Shift+Enter")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    box = page.locator("#conversation .bubble-wrap")
    assert box.evaluate("(box) => box.scrollHeight - box.scrollTop - box.clientHeight") <= 1


def test_who_reads_further_up_is_left_there_while_a_reply_is_written(page: Page) -> None:
    send(page, "long 300")
    expect(page.get_by_text("word3")).to_be_visible()
    box = page.locator("#conversation .bubble-wrap")
    box.evaluate(
        """box => {
            const left = () => box.scrollHeight - box.scrollTop - box.clientHeight > 200;
            window.scrolled = new Promise((done) => box.addEventListener("scrollend", () => left() && done()));
        }"""
    )
    box.hover()
    page.mouse.wheel(0, -900)
    page.evaluate("() => scrolled")
    before = page.evaluate(FIRST_SEEN)
    expect(page.locator("body")).to_have_attribute("data-phase", "writing")
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")
    assert page.evaluate(FIRST_SEEN) == before


def test_the_end_is_followed_while_a_reply_grows(page: Page) -> None:
    ask(page, "long 600")
    expect(page.get_by_text("word600")).to_be_in_viewport()
