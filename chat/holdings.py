"""What each owner keeps in the database: how many conversations, and how many bytes of messages and files.

There is one row for each owner, so that asking costs the same however much it is. The conversations are counted by the
schema's own triggers, whoever stores or deletes them; the store tells of bytes, which a conversation alone can't.
A file counts for each message that has it, also where it is stored once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from chat.database import Transaction

DELETED = "deleted:"
"""What the scope of a conversation begins with that its owner deleted; its bytes are the owner's until it is erased."""

_ADD = """
    UPDATE holding SET bytes = max(0, bytes + :sign * (
        SELECT coalesce(sum(length(CAST(message AS BLOB)) + (
            SELECT coalesce(sum(size), 0) FROM entry_file JOIN file ON file.id = file_id WHERE entry_id = entry.id
        )), 0) FROM entry WHERE id IN (SELECT value FROM json_each(:entries))
    )) WHERE owner = :owner
"""

_KEPT = """
    SELECT coalesce(max(conversations), 0) AS conversations, coalesce(max(bytes), 0) AS bytes, (
        SELECT (page_count - freelist_count) * page_size
        FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()
    ) AS in_all FROM holding WHERE owner = ?
"""


@dataclass(frozen=True)
class Holding:
    """What an owner keeps, and the bytes of the database that are in use by all."""

    conversations: int
    bytes: int
    in_all: int


def holding_of(change: Transaction, owner: str) -> Holding:
    """What an owner keeps, with what this transaction has changed."""
    [row] = change.rows(_KEPT, (owner,))
    return Holding(row["conversations"], row["bytes"], row["in_all"])


def add_entries(change: Transaction, scope: str, entry_ids: Sequence[str]) -> None:
    """Note that entries were stored, of whoever has conversations in a scope."""
    _add(change, scope, entry_ids, 1)


def remove_entries(change: Transaction, scope: str, entry_ids: Sequence[str]) -> None:
    """Note that stored entries are about to be erased."""
    _add(change, scope, entry_ids, -1)


def _add(change: Transaction, scope: str, entry_ids: Sequence[str], sign: int) -> None:
    owner = scope.removeprefix(DELETED)
    change.execute(_ADD, {"owner": owner, "entries": json.dumps(list(entry_ids)), "sign": sign})
