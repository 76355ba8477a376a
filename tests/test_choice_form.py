"""The form of what a person chooses for a conversation: what it offers, and that it is kept with the conversation."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, FilePayload, Page, expect
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from chat.choice_form import choice_form
from chat.choices import Choice
from chat.models import ChatAgent, ChatModel
from tests.browser import Chat, ask, open_page


@pytest.fixture
def agent() -> ChatAgent:
    agent = Agent(name="own")

    @agent.tool_plain(name="<b>add</b>")
    def add(a: int, b: int) -> int:  # pyright: ignore[reportUnusedFunction]  # The agent calls it.
        """Add "two" <numbers>."""
        return a + b

    return ChatAgent(agent, (ChatModel("one", TestModel()), ChatModel("<two>", TestModel())))


def test_the_summary_names_the_model_and_counts_what_else_differs(agent: ChatAgent) -> None:
    assert "<summary>one</summary>" in choice_form(agent, Choice())
    changed = choice_form(agent, Choice(model="<two>", instructions="Be brief.", temperature=0.5))
    assert "<summary>&lt;two&gt; <b>2 changed</b></summary>" in changed


def test_it_holds_what_was_chosen(agent: ChatAgent) -> None:
    form = choice_form(agent, Choice(instructions="Be brief.", temperature=0.5, tools_off=("<b>add</b>",)))
    assert ">Be brief.</textarea>" in form
    assert 'value="0.5"' in form
    assert 'name="tool" value="&lt;b&gt;add&lt;/b&gt;">' in form
    assert 'name="tool" value="&lt;b&gt;add&lt;/b&gt;" checked>' in choice_form(agent, Choice())


def test_nothing_that_people_or_tools_wrote_becomes_markup(agent: ChatAgent) -> None:
    form = choice_form(agent, Choice(instructions="</textarea><img src=x onerror=alert(1)>"))
    assert "<img" not in form
    assert "<b>add" not in form
    assert 'title="Add &quot;two&quot; &lt;numbers&gt;."' in form


def test_what_the_model_can_not_do_is_not_offered() -> None:
    plain = ChatAgent(Agent(), (ChatModel("test", TestModel()),))
    form = choice_form(plain, Choice())
    assert 'name="thinking"' not in form
    assert 'name="tool"' not in form


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """A chat in which people choose between Pydantic AI's own model for tests and one that nobody asks."""
    models = ("--agent", "tests.scripted:agent", "--models", "test,openai:gpt-5")
    chat = Chat(tmp_path_factory.mktemp("several"), *models, OPENAI_API_KEY="unused")
    yield chat
    chat.kill()


def switch(page: Page, tool: str, *, on: bool) -> None:
    """Switch a tool on or off, and wait until that is stored."""
    with page.expect_response("**/run/predict*"):
        page.locator(f"#choice input[value={tool}]").set_checked(on)
    box = expect(page.locator(f"#choice input[value={tool}]"))
    box.to_be_checked() if on else box.not_to_be_checked()


def test_what_is_chosen_is_kept_with_the_conversation_and_is_its_own(visitor: BrowserContext, several: Chat) -> None:
    page = open_page(visitor, several.url)
    page.locator("#choice summary").click()
    tools = page.locator("#choice input[name=tool]").evaluate_all("boxes => boxes.map((box) => box.value)")
    # Pydantic AI's model for tests calls all tools that there are.
    for tool in set(tools) - {"add"}:
        switch(page, tool, on=False)
    expect(page.locator("#choice summary")).to_have_text("test 1 changed")
    expect(page.locator("#choice details")).to_have_attribute("open", "")
    page.locator("#choice textarea").fill("Be brief.")
    page.locator("#choice textarea").press("Tab")
    expect(page.locator("#choice summary")).to_have_text("test 2 changed")
    page.keyboard.press("Escape")
    ask(page, "hello")
    expect(page.locator(".bot.message")).to_contain_text("Tool: add")
    expect(page.locator(".bot.message")).not_to_contain_text("Tool: wait")
    page.reload()
    expect(page.locator("#choice summary")).to_have_text("test 2 changed")
    page.locator("#new-chat").click()
    expect(page.locator("#choice summary")).to_have_text("test")
    page.go_back()
    expect(page.locator("#choice summary")).to_have_text("test 2 changed")


def test_a_choice_can_be_changed_in_mid_conversation(visitor: BrowserContext, several: Chat) -> None:
    page = open_page(visitor, several.url)
    page.locator("#choice summary").click()
    # Pydantic AI's model for tests calls all tools that there are, also those that never return.
    for tool in page.locator("#choice input[name=tool]").evaluate_all("boxes => boxes.map((box) => box.value)"):
        switch(page, tool, on=False)
    ask(page, "hello")
    switch(page, "add", on=True)
    page.reload()
    expect(page.locator("#choice summary")).to_contain_text("1 changed")
    expect(page.locator("#choice input[value=add]")).to_be_checked()
    expect(page.locator("#choice input[value=wait]")).not_to_be_checked()


def test_a_reply_is_retried_with_a_model_of_the_menu_by_keyboard(visitor: BrowserContext, several: Chat) -> None:
    page = open_page(visitor, several.url)
    page.locator("#choice summary").click()
    for tool in page.locator("#choice input[name=tool]").evaluate_all("boxes => boxes.map((box) => box.value)"):
        switch(page, tool, on=False)
    page.keyboard.press("Escape")
    ask(page, "hello")
    page.get_by_label("Retry with another model").press("Enter")
    expect(page.get_by_role("menuitem")).to_have_text(["test", "openai:gpt-5"])
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("menuitem").last).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator(".versions")).to_contain_text("2/2")


def test_what_can_be_attached_follows_the_model_that_is_chosen(visitor: BrowserContext, several: Chat) -> None:
    page = open_page(visitor, several.url)
    microphone = page.locator("[data-testid=microphone-button]")
    film = FilePayload(name="film.mp4", mimeType="video/mp4", buffer=b"\0")
    expect(microphone).to_be_visible()
    choose_model(page, "openai:gpt-5")
    expect(microphone).to_be_hidden()
    page.locator("#message input[type=file]").set_input_files([film])
    expect(page.locator(".toast-wrap")).to_contain_text("“film.mp4” is of a kind that can't be sent here.")
    with page.expect_file_chooser():
        page.locator("[data-testid=upload-button]").click()
    offered = str(page.locator("#message input[type=file]").get_attribute("accept"))
    assert ".png" in offered
    assert ".mp4" not in offered
    choose_model(page, "test")
    expect(microphone).to_be_visible()
    page.locator("#message input[type=file]").set_input_files([film])
    expect(page.locator("#message .thumbnail-wrapper")).to_have_count(1)


def choose_model(page: Page, name: str) -> None:
    """Choose the model that answers."""
    page.locator("#choice summary").click()
    page.locator("#choice select[name=model]").select_option(name)
    expect(page.locator("#choice summary")).to_have_text(name)
    page.keyboard.press("Escape")
