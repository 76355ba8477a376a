"""The index of what owners can find: kept in the same transaction as the messages and titles themselves.

A document is a message or a title as one owner may find it. Its words are in an FTS5 table, each with the number of
its owner before it: `m7/rain` is "rain" in a message of owner 7, `t7/rain` in a title. So a search reads the entries of
its owner's words only, however much others have written, and also one for the beginnings of words. Splitting texts into
words is `chat.words`; SQLite's tokenizer only splits them at spaces again.

An entry that forks share is one document for an owner. It belongs to the conversation that stored it and, once that is
deleted, to one that shares it. Every entry that an owner's conversation reaches has a document, also one without words:
`index_conversation` can stop at the first that has one.

`search_due` names conversations that are still to be indexed: all of them after the migration and for a rebuild, and
one whose owner has changed.
"""

from collections.abc import Mapping, Sequence

from chat.database import Transaction
from chat.searched import text_of
from chat.words import words

_NEW_DOCUMENT = "INSERT INTO search_document (owner, conversation_id, entry_id) VALUES (?, ?, ?) RETURNING id"

# The entries that a conversation reaches and its owner has no document of, oldest first.
_MISSING = """
    WITH RECURSIVE missing (id, parent_id, position) AS (
        SELECT id, parent_id, position FROM entry
        WHERE id IN (
            SELECT head_id FROM conversation WHERE conversation_id = :conversation
            UNION SELECT entry_id FROM branch WHERE conversation_id = :conversation)
        AND (:whole OR NOT EXISTS (SELECT 1 FROM search_document WHERE entry_id = entry.id AND owner = :owner))
        UNION
        SELECT entry.id, entry.parent_id, entry.position FROM entry JOIN missing ON entry.id = missing.parent_id
        WHERE :whole OR NOT EXISTS (SELECT 1 FROM search_document WHERE entry_id = entry.id AND owner = :owner)
    )
    SELECT missing.id, message FROM missing JOIN entry ON entry.id = missing.id
    WHERE NOT EXISTS (SELECT 1 FROM search_document WHERE entry_id = missing.id AND owner = :owner)
    ORDER BY missing.position
"""

# Another conversation of the owner that shares an entry: one that ends in it, left a branch at it, or goes on after it
# with what is its own; or one that shares an entry after it.
_SHARED = """
    WITH RECURSIVE
    own (id, owner, scope) AS (
        SELECT entry_id, owner, search_owner.scope FROM search_document JOIN search_owner ON search_owner.id = owner
        WHERE conversation_id = :conversation AND entry_id IS NOT NULL
    ),
    shared (id, owner, conversation_id) AS (
        SELECT own.id, own.owner, conversation_id FROM own
        JOIN conversation ON head_id = own.id AND conversation.scope = own.scope
        UNION
        SELECT own.id, own.owner, conversation_id FROM own
        JOIN branch ON branch.entry_id = own.id
        JOIN conversation USING (conversation_id)
        WHERE conversation.scope = own.scope
        UNION
        SELECT own.id, own.owner, after.conversation_id FROM own
        JOIN entry ON entry.parent_id = own.id
        JOIN search_document AS after ON after.entry_id = entry.id AND after.owner = own.owner
        UNION
        SELECT own.id, own.owner, shared.conversation_id FROM shared
        JOIN entry ON entry.id = shared.id
        JOIN own ON own.id = entry.parent_id AND own.owner = shared.owner
    )
    SELECT min(conversation_id), id, owner FROM shared WHERE conversation_id <> :conversation GROUP BY id, owner
"""


def words_of(message_json: str) -> list[str]:
    """The words of a message's row that can be found."""
    return words(text_of(message_json))


def index_new(change: Transaction, conversation_id: str, entries: Mapping[str, Sequence[str]]) -> None:
    """Index what was just stored of a conversation: new entries, and what a fork shares with another owner.

    Args:
        change: The transaction that has stored them.
        conversation_id: The conversation whose record they are reached from.
        entries: The words of the new entries by the entries' ids, oldest first.
    """
    owner = _owner_of(change, conversation_id)
    if owner is not None:
        _add(change, owner, conversation_id, entries)
        _add_missing(change, owner, conversation_id, whole=False)


def index_title(change: Transaction, conversation_id: str) -> None:
    """Index a conversation's title as it is now."""
    owner = _owner_of(change, conversation_id)
    titles = change.rows("SELECT title FROM title WHERE conversation_id = ?", (conversation_id,))
    change.execute("DELETE FROM search_document WHERE conversation_id = ? AND entry_id IS NULL", (conversation_id,))
    if owner is not None and titles:
        _write(change, f"t{owner}/", (owner, conversation_id, None), words(titles[0]["title"]))


def keep_shared(change: Transaction, conversation_id: str) -> None:
    """Before a conversation is deleted, have what it shares belong to a conversation that is left."""
    shared = change.rows(_SHARED, {"conversation": conversation_id})
    change.execute_many(
        "UPDATE search_document SET conversation_id = ? WHERE entry_id = ? AND owner = ?",
        [tuple(row) for row in shared],
    )


def index_conversation(change: Transaction, conversation_id: str) -> None:
    """Index all that is missing of a conversation, which then is no longer due."""
    change.execute("DELETE FROM search_due WHERE conversation_id = ?", (conversation_id,))
    owner = _owner_of(change, conversation_id)
    if owner is not None:
        change.execute("DELETE FROM search_document WHERE conversation_id = ? AND owner <> ?", (conversation_id, owner))
        _add_missing(change, owner, conversation_id, whole=True)
        index_title(change, conversation_id)


def give_all(change: Transaction, before: str, after: str) -> None:
    """Have one owner find what another could, all of whose conversations were just given to them.

    At once, if they could find nothing yet; else the conversations are due.
    """
    if not change.rows("SELECT 1 FROM search_owner WHERE scope = ?", (after,)):
        change.execute("UPDATE search_owner SET scope = ? WHERE scope = ?", (after, before))
        return
    change.execute(
        """INSERT INTO search_due SELECT DISTINCT conversation_id
        FROM search_document JOIN conversation USING (conversation_id)
        WHERE conversation.scope = ? AND owner = (SELECT id FROM search_owner WHERE scope = ?)
        ON CONFLICT DO NOTHING""",
        (after, before),
    )


def forget_all(change: Transaction) -> None:
    """Empty the index, whatever state it is in; all conversations are due then."""
    made = change.rows(
        "SELECT sql FROM sqlite_schema WHERE name IN ('search_words', 'search_words_of_deleted') ORDER BY type"
    )
    change.execute("DROP TRIGGER search_words_of_deleted")  # Row by row it would take as long as to index them.
    change.execute("DROP TABLE search_words")
    change.execute("DELETE FROM search_document")
    for row in made:
        change.execute(row["sql"])
    change.execute(
        "INSERT INTO search_due SELECT conversation_id FROM conversation WHERE scope IS NOT NULL ON CONFLICT DO NOTHING"
    )


def _owner_of(change: Transaction, conversation_id: str) -> int | None:
    """The number of a conversation's owner; `None` for one that is nobody's, such as a script's."""
    scopes = change.rows(
        """SELECT scope, search_owner.id FROM conversation LEFT JOIN search_owner USING (scope)
        WHERE conversation_id = ? AND scope IS NOT NULL""",
        (conversation_id,),
    )
    if scopes and scopes[0]["id"] is None:
        change.execute("INSERT INTO search_owner (scope) VALUES (?)", (scopes[0]["scope"],))
        return _owner_of(change, conversation_id)
    return scopes[0]["id"] if scopes else None


def _add_missing(change: Transaction, owner: int, conversation_id: str, *, whole: bool) -> None:
    rows = change.rows(_MISSING, {"owner": owner, "conversation": conversation_id, "whole": whole})
    _add(change, owner, conversation_id, {row["id"]: words_of(row["message"]) for row in rows})


def _add(change: Transaction, owner: int, conversation_id: str, entries: Mapping[str, Sequence[str]]) -> None:
    for entry_id, found in entries.items():
        _write(change, f"m{owner}/", (owner, conversation_id, entry_id), found)


def _write(change: Transaction, before: str, document: tuple[int, str, str | None], found: Sequence[str]) -> None:
    [(number,)] = change.rows(_NEW_DOCUMENT, document)
    if found:
        line = " ".join(before + word for word in found)
        change.execute("INSERT INTO search_words (rowid, words) VALUES (?, ?)", (number, line))
