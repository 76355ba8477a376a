"""Whoever follows an owner hears the latest state of each of the owner's conversations, and nobody else's."""

import asyncio

import pytest

from chat.changes import Changes

pytestmark = pytest.mark.anyio


class Page:
    """A page that follows an owner from now on."""

    def __init__(self, changes: Changes, owner: str = "ann") -> None:
        self._following = changes.follow(owner)
        self._news = self._following.__enter__()
        self._next = asyncio.ensure_future(anext(self._news))

    async def heard(self) -> dict[str, str]:
        news = await asyncio.wait_for(self._next, 5)
        self._next = asyncio.ensure_future(anext(self._news))
        return news

    async def ended(self) -> bool:
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(self._next, 5)
        return True

    async def leave(self) -> None:
        self._next.cancel()
        await asyncio.wait({self._next})


async def following(changes: Changes, *owners: str) -> list[Page]:
    pages = [Page(changes, owner) for owner in owners]
    await asyncio.sleep(0)  # Lets them begin.
    return pages


async def test_every_page_of_an_owner_hears_of_a_change() -> None:
    changes = Changes()
    pages = await following(changes, "ann", "ann")
    changes.announce("ann", "c", "1")
    assert [await page.heard() for page in pages] == [{"c": "1"}] * 2
    changes.announce("ann", "c", "2")
    assert [await page.heard() for page in pages] == [{"c": "2"}] * 2


async def test_nobody_else_hears_of_it() -> None:
    changes = Changes()
    ann, bob = await following(changes, "ann", "bob")
    changes.announce("ann", "hers", "1")
    changes.announce("bob", "his", "2")
    assert (await ann.heard(), await bob.heard()) == ({"hers": "1"}, {"his": "2"})


async def test_a_page_that_was_busy_hears_the_latest_state_of_each_conversation_once() -> None:
    changes = Changes()
    [page] = await following(changes, "ann")
    for token in ("1", "2", "3"):
        changes.announce("ann", "a", token)
    changes.announce("ann", "b", "1")
    assert await page.heard() == {"a": "3", "b": "1"}
    changes.announce("ann", "b", "2")
    assert await page.heard() == {"b": "2"}


async def test_what_was_announced_before_is_not_heard() -> None:
    changes = Changes()
    changes.announce("ann", "c", "1")
    [page] = await following(changes, "ann")
    changes.announce("ann", "c", "2")
    assert await page.heard() == {"c": "2"}


async def test_a_page_that_leaves_does_not_disturb_the_others() -> None:
    changes = Changes()
    leaving, staying = await following(changes, "ann", "ann")
    await leaving.leave()
    changes.announce("ann", "c", "1")
    assert await staying.heard() == {"c": "1"}
    await staying.leave()
    changes.announce("ann", "c", "2")
    [later] = await following(changes, "ann")
    changes.announce("ann", "c", "3")
    assert await later.heard() == {"c": "3"}


async def test_closing_ends_all_pages_also_those_that_come_later() -> None:
    changes = Changes()
    pages = await following(changes, "ann", "bob")
    changes.close()
    changes.close()
    pages += await following(changes, "cid")
    assert [await page.ended() for page in pages] == [True] * 3


async def test_what_was_announced_before_closing_is_still_heard() -> None:
    changes = Changes()
    [page] = await following(changes, "ann")
    changes.announce("ann", "c", "1")
    changes.close()
    assert await page.heard() == {"c": "1"}
    assert await page.ended()
