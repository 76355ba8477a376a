"""Tells open pages which of their owner's conversations changed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

QUIET_SECONDS = 20
"""The longest silence towards a follower: proxies end connections that say nothing for a minute, and one that is gone
is only noticed when something is said."""


class Changes:
    """Announcements to whoever follows an owner: the latest state of each conversation, never a backlog."""

    def __init__(self) -> None:
        self._followers: dict[str, set[_Follower]] = {}
        self._closed = False

    def announce(self, owner: str, conversation_id: str, token: str) -> None:
        """Say that a conversation of `owner` is now in the state that `token` names."""
        for follower in self._followers.get(owner, ()):
            follower.news[conversation_id] = token
            follower.wake.set()

    async def follow(self, owner: str) -> AsyncGenerator[dict[str, str], None]:
        """Announcements to `owner` from now on: tokens by conversation id. Ends with `close`.

        An empty one comes when there was nothing to say for `QUIET_SECONDS`.
        """
        follower = _Follower()
        self._followers.setdefault(owner, set()).add(follower)
        try:
            while not self._closed:
                with suppress(TimeoutError):
                    await asyncio.wait_for(follower.wake.wait(), QUIET_SECONDS)
                follower.wake.clear()
                if follower.news or not self._closed:
                    news, follower.news = follower.news, {}
                    yield news
        finally:
            self._followers[owner].discard(follower)
            if not self._followers[owner]:
                del self._followers[owner]

    def close(self) -> None:
        """End all that follow."""
        self._closed = True
        for followers in self._followers.values():
            for follower in followers:
                follower.wake.set()


class _Follower:
    def __init__(self) -> None:
        self.news: dict[str, str] = {}
        self.wake = asyncio.Event()
