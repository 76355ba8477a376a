"""What a person does with the menu of a conversation and the one below the list, in a browser."""

import json
import re
import zipfile
from pathlib import Path

from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser import Chat, ask


def menu(page: Page, title: str, item: str) -> None:
    """Choose something in a conversation's menu."""
    row = page.locator("#conversations .conversation").filter(has_text=title)
    row.hover()
    row.get_by_role("button").click()
    page.get_by_role("menuitem", name=item).click()


def more(page: Page, item: str) -> None:
    """Choose something in the menu below the list."""
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("menuitem", name=item).click()


def dialog(page: Page) -> Locator:
    return page.locator("dialog.exchange")


def test_a_conversation_is_exported_deleted_and_imported_again(page: Page, tmp_path: Path) -> None:
    ask(page, "tool to be kept")
    menu(page, "tool to be kept", "Export")
    files = {}
    for form in ("Markdown", "Test case", "JSON"):
        if not dialog(page).is_visible():
            menu(page, "tool to be kept", "Export")
        with page.expect_download() as download:
            dialog(page).get_by_role("button", name=form).click()
        files[form] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[form])
    assert {form: file.name for form, file in files.items()} == {
        "Markdown": "tool to be kept.md",
        "Test case": "tool to be kept.yaml",
        "JSON": "tool to be kept.json",
    }
    assert "The sum is 42." in files["Markdown"].read_text(encoding="utf-8")
    menu(page, "tool to be kept", "Delete")
    expect(page.locator("#conversations .conversation")).to_have_count(0)
    with page.expect_file_chooser() as chooser:
        more(page, "Import")
    chooser.value.set_files(files["JSON"])
    expect(dialog(page)).to_contain_text("1 conversation was imported.")
    dialog(page).get_by_role("button", name="Open it").click()
    expect(page.locator("#conversation")).to_contain_text("The sum is 42.")
    expect(page.locator("#conversations [aria-current]")).to_have_text("tool to be kept")
    ask(page, "turns")
    expect(page.locator("#conversation")).to_contain_text("2 turns")


def test_a_file_that_is_none_is_refused_with_a_sentence(page: Page) -> None:
    with page.expect_file_chooser() as chooser:
        more(page, "Import")
    chooser.value.set_files({"name": "a.json", "mimeType": "application/json", "buffer": b"{"})
    expect(dialog(page)).to_contain_text("This file is damaged")
    page.keyboard.press("Escape")
    expect(dialog(page)).to_have_count(0)


def test_everything_is_one_download_that_says_when_it_is_done(page: Page, tmp_path: Path) -> None:
    ask(page, "echo one")
    with page.expect_download() as download:
        more(page, "Export everything")
    download.value.save_as(tmp_path / "all.zip")
    expect(dialog(page)).to_contain_text("All conversations are in your downloads.")
    with zipfile.ZipFile(tmp_path / "all.zip") as zipped:
        assert zipped.namelist() == ["00001 echo one.json", "00001 echo one.md"]
        assert json.loads(zipped.read("00001 echo one.json"))["title"] == "echo one"


def test_a_link_is_made_read_by_somebody_else_listed_and_revoked(
    page: Page, visitor: BrowserContext, chat: Chat
) -> None:
    ask(page, "think <b>aloud</b>")
    menu(page, "think", "Share")
    dialog(page).get_by_label("Show the thinking").check()
    dialog(page).get_by_role("button", name="Create link").click()
    link = dialog(page).get_by_label("Link", exact=True).input_value()
    assert re.fullmatch(re.escape(chat.url) + r"/parley/shared/[\w-]{43}", link)
    dialog(page).get_by_role("button", name="Close").click()
    browser = visitor.browser
    assert browser is not None
    somebody = browser.new_context()
    shared = somebody.new_page()
    problems: list[str] = []
    shared.on("console", lambda message: problems.append(message.text))
    shared.goto(link)
    expect(shared.get_by_role("heading", level=1)).to_have_text("think <b>aloud</b>")
    expect(shared.get_by_label("Person")).to_have_text("think <b>aloud</b>")
    shared.get_by_text("Thinking").click()
    expect(shared.get_by_label("Assistant")).to_contain_text("Let me think about it.")
    ask(page, "echo later")
    shared.reload()
    expect(shared.locator("main")).not_to_contain_text("later")
    assert somebody.cookies() == []
    more(page, "Shared links")
    expect(dialog(page)).to_contain_text("with thinking")
    dialog(page).get_by_role("button", name="Revoke").click()
    expect(dialog(page)).to_contain_text("You share nothing.")
    answer = shared.reload()
    assert answer is not None
    assert answer.status == 404
    expect(shared.get_by_role("heading")).to_have_text("Nothing is shared here")
    assert [problem for problem in problems if "404" not in problem] == []
    somebody.close()
