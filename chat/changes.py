"""Tells open pages which of their owner's conversations changed."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager, suppress

QUIET_SECONDS = 20
"""The longest silence towards a follower: proxies end connections that say nothing for a minute, and one that is gone
is only noticed when something is said."""

SAME = ""
"""Instead of a token: what is said in the conversation is as it was."""


class Changes:
    """Announcements to whoever follows an owner: the latest state of each conversation, never a backlog."""

    def __init__(self) -> None:
        self._followers: dict[str, set[_Follower]] = {}
        self._closed = False

    def announce(self, owner: str, conversation_id: str, token: str | None) -> None:
        """Say that a conversation of `owner` is now in the state that `token` names; `None` for one that is gone."""
        for follower in self._followers.get(owner, ()):
            follower.news[conversation_id] = token
            follower.wake.set()

    def announce_listing(self, owner: str, conversation_id: str) -> None:
        """Say that a conversation of `owner` is listed otherwise: its token is then `SAME`, unless it changed too."""
        for follower in self._followers.get(owner, ()):
            follower.news.setdefault(conversation_id, SAME)
            follower.wake.set()

    @contextmanager
    def follow(
        self, owner: str, shown: str | None = None
    ) -> Generator[AsyncGenerator[dict[str, str | None], None], None, None]:
        """Announcements to `owner` from now on: tokens by conversation id. They end with `close`.

        An empty one comes when there was nothing to say for `QUIET_SECONDS`.

        Args:
            owner: Who follows.
            shown: The conversation that the follower shows meanwhile.
        """
        follower = _Follower(shown)
        self._followers.setdefault(owner, set()).add(follower)
        try:
            yield self._news(follower)
        finally:
            self._followers[owner].discard(follower)
            if not self._followers[owner]:
                del self._followers[owner]

    def shows(self, owner: str, conversation_id: str) -> bool:
        """Whether anybody who follows `owner` shows this conversation."""
        return any(follower.shown == conversation_id for follower in self._followers.get(owner, ()))

    def close(self) -> None:
        """End all that follow."""
        self._closed = True
        for followers in self._followers.values():
            for follower in followers:
                follower.wake.set()

    async def _news(self, follower: "_Follower") -> AsyncGenerator[dict[str, str | None], None]:
        while not self._closed:
            with suppress(TimeoutError):
                await asyncio.wait_for(follower.wake.wait(), QUIET_SECONDS)
            follower.wake.clear()
            if follower.news or not self._closed:
                news, follower.news = follower.news, {}
                yield news


class _Follower:
    def __init__(self, shown: str | None) -> None:
        self.shown = shown
        self.news: dict[str, str | None] = {}
        self.wake = asyncio.Event()
