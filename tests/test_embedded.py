"""The chat as it starts on a fresh machine: the embedded model, no key, no configuration."""

from collections.abc import Callable

from playwright.sync_api import BrowserContext, expect

from tests.browser import Chat, open_again, open_page, replies, send

ANSWER_MS = 120_000
"""A small model on a busy machine."""


def test_a_person_chats_with_a_real_model_and_finds_the_conversation_after_a_restart(
    start_chat: Callable[..., Chat], visitor: BrowserContext
) -> None:
    chat = start_chat(HF_HUB_OFFLINE="1")  # Without the hub: the model that ships in a package.
    assert "Model:         SmolLM2-135M-Instruct" in chat.lines
    page = open_page(visitor, chat.url)
    expect(page.locator("#conversation")).to_contain_text("SmolLM2-135M-Instruct")
    expect(page.locator("#conversation")).to_contain_text("good only for trying the chat")
    expect(page.locator("#conversation")).to_contain_text("CHAT_MODEL")
    page.evaluate(
        """() => {
            window.lengths = [];
            new MutationObserver(() => {
                const length = [...document.querySelectorAll(".bot.message")].at(-1)?.innerText.length;
                if (length !== window.lengths.at(-1)) window.lengths.push(length);
            }).observe(document.body, { childList: true, subtree: true, characterData: true });
        }"""
    )

    send(page, "What is the capital of France?")
    expect(page.locator(".bot.message")).to_contain_text("Paris", timeout=ANSWER_MS)
    expect(page.locator("body")).to_have_attribute("data-phase", "idle", timeout=ANSWER_MS)
    first = replies(page)
    send(page, "Write a haiku about the sea.")
    expect(page.locator("#message textarea")).to_have_value("")
    expect(page.locator("body")).to_have_attribute("data-phase", "idle", timeout=ANSWER_MS)
    lengths = page.evaluate("window.lengths")
    assert len(lengths) > 2, "words arrive one after another"
    stored = replies(page)
    assert stored[:1] == first

    page.reload()
    expect(page.locator(".bot.message")).to_have_count(2)
    assert chat.stop() == 0
    chat.start()
    page = open_again(page)
    expect(page.locator(".bot.message")).to_have_count(2)
    assert replies(page) == stored
    send(page, "What is the capital of Italy?")
    expect(page.locator(".bot.message")).to_have_count(3, timeout=ANSWER_MS)
    expect(page.locator(".bot.message").last).to_contain_text("Rome", timeout=ANSWER_MS)
