"""Tells open pages which of their owner's conversations changed."""

import asyncio
from collections.abc import AsyncGenerator


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
        """Announcements to `owner` from now on: tokens by conversation id. Ends with `close`."""
        follower = _Follower()
        self._followers.setdefault(owner, set()).add(follower)
        try:
            while not self._closed:
                await follower.wake.wait()
                follower.wake.clear()
                if follower.news:
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
