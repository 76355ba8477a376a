"""Nothing of anybody's is seen or changed by others, whatever they try: see `tests.attacks`."""

import asyncio

import pytest
from playwright.sync_api import BrowserContext

from tests.attacks import words
from tests.attacks.all import GROUPS, try_all
from tests.attacks.stage import Case
from tests.browser import Chat


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Case]]:
    return asyncio.run(try_all(tmp_path_factory.mktemp("attacked")))


@pytest.mark.parametrize("group", GROUPS)
def test_the_chat_holds_against(tried: dict[str, list[Case]], group: str) -> None:
    assert [case for case in tried[group] if not case.held] == []
    assert tried[group]


def test_nothing_that_is_written_in_a_conversation_runs_or_asks_anybody_else(
    visitor: BrowserContext, chat: Chat
) -> None:
    assert [case for case in words.cases(visitor, chat) if not case.held] == []
