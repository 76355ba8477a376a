"""What each owner keeps in the database: how many conversations, and how many bytes of messages and files.

There is one row for each owner, so that asking costs the same however much it is. The conversations are counted by the
schema's own triggers, whoever stores or deletes them; the store tells of bytes, which a conversation alone can't.
A file counts for each message that has it, also where it is stored once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from chat.database import Transaction

_BYTES = """
    SELECT coalesce(sum(length(CAST(message AS BLOB)) + (
        SELECT coalesce(sum(size), 0) FROM entry_file JOIN file ON file.id = file_id WHERE entry_id = entry.id
    )), 0) FROM entry WHERE id IN (SELECT value FROM json_each(?))
"""


DELETED = "deleted:"
"""What the scope of a conversation begins with that its owner deleted; its bytes are the owner's until it is erased."""


@dataclass(frozen=True)
class Holding:
    """What an owner keeps."""

    conversations: int = 0
    bytes: int = 0


def holding_of(change: Transaction, owner: str) -> Holding:
    """What an owner keeps, with what this transaction has changed."""
    rows = change.rows("SELECT conversations, bytes FROM holding WHERE owner = ?", (owner,))
    return Holding(rows[0]["conversations"], rows[0]["bytes"]) if rows else Holding()


def held_by_all(change: Transaction) -> int:
    """The bytes of the database that are in use."""
    [(pages,)], [(free,)], [(size,)] = (
        change.rows(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def bytes_of(change: Transaction, entry_ids: Sequence[str]) -> int:
    """The bytes of stored entries and of their files."""
    [(found,)] = change.rows(_BYTES, (json.dumps(list(entry_ids)),))
    return found


def add_bytes(change: Transaction, scope: str, more: int) -> None:
    """Note that whoever has conversations in a scope keeps so many bytes more, or fewer."""
    owner = scope.removeprefix(DELETED)
    change.execute("UPDATE holding SET bytes = max(0, bytes + ?) WHERE owner = ?", (more, owner))
