"""Nothing of anybody's is seen or changed by others, whatever they try: see `tests.attacks`."""

import asyncio

import pytest

from tests.attacks.all import GROUPS, try_all
from tests.attacks.stage import Case


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Case]]:
    return asyncio.run(try_all(tmp_path_factory.mktemp("attacked")))


@pytest.mark.parametrize("group", GROUPS)
def test_the_chat_holds_against(tried: dict[str, list[Case]], group: str) -> None:
    assert [case for case in tried[group] if not case.held] == []
    assert tried[group]
