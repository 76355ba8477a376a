"""Conversations of the last turns, kept in memory so that the next turn needn't read them again.

Nothing here is the truth: a conversation is saved against its revision, so one that was changed elsewhere meanwhile is
found out, and read.
"""

from collections import OrderedDict

from pydantic_ai.conversation import Conversation

from chat.identity import Owner

KEPT_BYTES = 8 << 20
"""Bytes of messages that are kept at most, of all conversations together."""

MESSAGE_BYTES = 2000
"""What a message takes beside its text, about."""


class RecentConversations:
    """Conversations by owner and id, up to `KEPT_BYTES`, the least recently used given up first.

    One that is taken is whoever's took it, until it is put back.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Owner, str], tuple[Conversation, int]] = OrderedDict()
        self._bytes = 0

    def has(self, owner: Owner, conversation_id: str) -> bool:
        """Whether a conversation is kept: it is its owner's then."""
        return (owner, conversation_id) in self._kept

    def take(self, owner: Owner, conversation_id: str) -> tuple[Conversation, int] | None:
        """A conversation as it was put, and the bytes of its messages as JSON; `None` when it isn't kept."""
        taken = self._kept.pop((owner, conversation_id), None)
        if taken is not None:
            self._bytes -= _weight(*taken)
        return taken

    def put(self, owner: Owner, conversation: Conversation, size: int) -> None:
        """Keep a conversation as it is stored; `size` is the bytes of its messages as JSON."""
        self.take(owner, conversation.conversation_id)
        self._kept[owner, conversation.conversation_id] = conversation, size
        self._bytes += _weight(conversation, size)
        while self._bytes > KEPT_BYTES:
            _, given_up = self._kept.popitem(last=False)
            self._bytes -= _weight(*given_up)


def _weight(conversation: Conversation, size: int) -> int:
    return size + MESSAGE_BYTES * len(conversation.messages)
