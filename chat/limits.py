"""What visitors may still use: counted in the database, so that neither a restart nor a kill gives it back.

Before the model is called a reply is reserved, in the transaction that stores its prompt: it counts as a message, and
what it may use at most is held until it has ended and what it really used is known. So replies that are written at the
same time go together no further beyond a limit than one of them could. There is one row for each owner, one for each
network address that visitors ask from, and one for all together, and they are read and written by their key: what it
costs does not grow with what is counted.

A day is one of UTC. When the clock goes back, a day that has begun does not begin again. Addresses are counted by a
hash with a key of the day; both are gone with the first message of the next.
"""

import hashlib
import math
import secrets
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass, fields, replace

from chat.allowance import (
    ADDRESS,
    OWN_REPLY,
    REPLY,
    TOTAL,
    VISITOR,
    AddressAllowance,
    Allowance,
    ReplyAllowance,
    TotalAllowance,
    VisitorAllowance,
)
from chat.database import Database, DatabaseUnavailable, Transaction
from chat.holdings import Holding, holding_of
from chat.identity import Owner
from chat.markup import size_text
from chat.reply_limits import ReplyLimits
from chat.settings import Settings
from chat.spending import Spending, micros

DAY_SECONDS = 24 * 3600
HOUR_SECONDS = 3600
MINUTE_SECONDS = 60

HELD = Spending(10_000, 100_000)
"""What is held for a reply that may use any number of tokens, or of dollars: ten thousand, and ten cents."""

LOW = 0.25
"""The part of what a visitor may use from which on the page always says what is left."""

_ALL = ""
"""Whose row counts for all together. No owner is empty."""

_ADDRESS = "address:"
"""What the row of an address begins with. No owner does."""

_KEY = "SELECT day, key FROM address_key ORDER BY day DESC LIMIT 1"
_IS_KNOWN = "SELECT 1 FROM spending WHERE who = :owner UNION ALL SELECT 1 FROM holding WHERE owner = :owner LIMIT 1"
_FORGET = "DELETE FROM spending WHERE who > 'address:' AND who < 'address;' AND day < ?"
"""By a range of the key: the addresses, and no owner's row is looked at."""


class LimitReached(Exception):
    """Something that would go beyond a limit. The message says which, and when it is possible again."""


@dataclass(frozen=True)
class Left:
    """What is left for a visitor, in a few words. `low` when it is little."""

    text: str
    low: bool


@dataclass(frozen=True)
class _Spent:
    """What somebody has used on a day and in a minute, and holds now. Times are seconds since 1970 in UTC."""

    day: int
    messages: int = 0
    tokens: int = 0
    micros: int = 0
    minute_began: int = 0
    minute_messages: int = 0
    running: int = 0
    held_tokens: int = 0
    held_micros: int = 0
    hour_began: int = 0
    hour_visitors: int = 0

    def at(self, now: int) -> "_Spent":
        """The same in the day, the hour and the minute of `now`."""
        spent = self
        if now // DAY_SECONDS > spent.day:
            spent = replace(spent, day=now // DAY_SECONDS, messages=0, tokens=0, micros=0)
        if now - spent.hour_began >= HOUR_SECONDS:
            spent = replace(spent, hour_began=now, hour_visitors=0)
        if now - spent.minute_began >= MINUTE_SECONDS:
            spent = replace(spent, minute_began=now, minute_messages=0)
        # Set back, neither lasts longer than an hour and a minute.
        return replace(spent, hour_began=min(now, spent.hour_began), minute_began=min(now, spent.minute_began))

    def holding(self, held: Spending) -> "_Spent":
        """The same with one reply more."""
        return replace(
            self,
            messages=self.messages + 1,
            minute_messages=self.minute_messages + 1,
            running=self.running + 1,
            held_tokens=self.held_tokens + held.tokens,
            held_micros=self.held_micros + held.micros,
        )

    def and_also(self, used: Spending) -> "_Spent":
        """The same with what was used since."""
        return replace(self, tokens=self.tokens + used.tokens, micros=self.micros + used.micros)

    def after(self, held: Spending, used: Spending) -> "_Spent":
        """The same when a reply has ended for which so much was held."""
        return replace(
            self.and_also(used),
            running=max(0, self.running - 1),
            held_tokens=max(0, self.held_tokens - held.tokens),
            held_micros=max(0, self.held_micros - held.micros),
        )


_COLUMNS = tuple(each.name for each in fields(_Spent))
_WRITE = f"INSERT OR REPLACE INTO spending (who, {', '.join(_COLUMNS)}) VALUES "  # noqa: S608  # names of ours
_ROW = f"({', '.join('?' * (1 + len(_COLUMNS)))})"


class Limits:
    """The limits of a chat and what was used of them, in a database that is open.

    Args:
        database: Where it is counted.
        visitor: What each owner may use.
        address: What all owners from one address may use.
        total: What all may use together.
        reply: What one reply may use; `None` leaves it to the agent.
        clock: Tells the seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        visitor: VisitorAllowance,
        address: AddressAllowance,
        total: TotalAllowance,
        reply: ReplyAllowance | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._visitor = visitor
        self._address = address
        self._total = total
        self._counts = bool(visitor or address or total)
        keeping = visitor.conversations, visitor.storage_mb, total.storage_mb
        self._keeps = any(limit is not None for limit in keeping)
        self._clock = clock
        self._held = _held(reply or ReplyAllowance())
        self.of_reply = None if reply is None else ReplyLimits(reply)
        """What Pydantic AI is told for each run; `None` for what the agent says itself."""

    @property
    def bound_spending(self) -> bool:
        """Whether there is an end to what all together can spend in a day."""
        total = self._total
        return any(limit is not None for limit in (total.messages_per_day, total.tokens_per_day, total.dollars_per_day))

    @asynccontextmanager
    async def reserved(self, owner: Owner, conversation_id: str) -> AsyncGenerator[None, None]:
        """Reserve a reply in a conversation, together with what is stored inside; given back when that fails.

        Raises:
            LimitReached: If it would go beyond a limit. Nothing is stored then.
            DatabaseUnavailable: If it can't be counted now.
        """
        if not self._counts:
            yield
            return
        with self._database.along(lambda change: self._reserving(change, owner, conversation_id)) as along:
            try:
                yield
                if not along.done:  # Nothing was stored: an unanswered prompt is answered.
                    await self._database.change(lambda change: None)
            except BaseException:
                if along.done:
                    with suppress(DatabaseUnavailable):
                        await self._database.change(lambda change: self._settle(change, conversation_id, Spending()))
                raise

    @asynccontextmanager
    async def settled(self, conversation_id: str, used: Spending) -> AsyncGenerator[None, None]:
        """Count what a reply used, together with what is stored inside. Does nothing when none is reserved there."""
        if not self._counts:
            yield
            return
        with self._database.along(lambda change: nullcontext(self._settle(change, conversation_id, used))):
            yield

    @asynccontextmanager
    async def kept(self, owner: Owner) -> AsyncGenerator[None, None]:
        """Let an owner keep what is stored inside, in one transaction.

        Raises:
            LimitReached: If it is more than can be kept. Nothing is stored then.
        """
        if not self._counts:
            yield
            return
        with self._database.along(lambda change: self._admitting(change, owner)):
            yield

    async def charge(self, owner: Owner, used: Spending) -> None:
        """Count what was used beside the replies, such as for a title. It is never refused."""

        def charge(change: Transaction) -> None:
            spent = self._read(change, self._counted(change, owner))
            self._write(change, {who: each.and_also(used) for who, each in spent.items()})

        if self._counts:
            await self._database.change(charge)

    async def unsettled(self) -> list[str]:
        """The conversations in which a reply is reserved. All are, at the start, of a process that was killed."""
        return [row["conversation_id"] for row in await self._database.rows("SELECT conversation_id FROM reservation")]

    async def release(self) -> None:
        """Hold nothing any more, at the start: no reply is being written. Addresses of other days are forgotten."""
        free = "UPDATE spending SET running = 0, held_tokens = 0, held_micros = 0 WHERE running > 0 OR held_tokens > 0"

        def release(change: Transaction) -> None:
            change.execute(free)
            _forget(change, self._now() // DAY_SECONDS)

        await self._database.change(release)

    async def settle(self, conversation_id: str, used: Spending) -> None:
        """Count what a reply used that ended with its process, also when nothing is limited any more."""
        await self._database.change(lambda change: self._settle(change, conversation_id, used))

    async def left(self, owner: Owner) -> Left | None:
        """What is left for an owner of what is scarcest today; `None` without limits."""
        if not self._counts:
            return None
        whos = [owner, _ALL]
        if self._address and owner.address and (key := await self._database.row(_KEY)) is not None:
            whos.append(_hashed(owner.address, key["key"]))
        spent = _spent(await self._database.rows(*_reading(whos)), whos, self._now())
        shares = [
            (share, text + whose)
            for who, each in spent.items()
            for allowance, whose in [self._allowed(who)]
            for share, text in _shares(each, allowance)
            # What others have a part in is only said when it is what a visitor will run out of.
            if share <= LOW or who == owner
        ]
        if not shares:
            return None
        share, text = min(shares)
        return Left(text, share <= LOW)

    def _now(self) -> int:
        return int(self._clock())

    def _allowed(self, who: str) -> tuple[Allowance, str]:
        """What the owner, the address or all of a row may use, and whose that is in a sentence."""
        if who == _ALL:
            return self._total, " for all visitors"
        return (self._address, " for your network") if who.startswith(_ADDRESS) else (self._visitor, "")

    def _counted(self, change: Transaction, owner: Owner) -> list[str]:
        """The rows in which what an owner uses is counted."""
        if not (self._address and owner.address):
            return [owner, _ALL]
        return [owner, _hashed(owner.address, self._key(change)), _ALL]

    def _key(self, change: Transaction) -> bytes:
        """The key of the day. A new day's first is made here, and what was counted with the one before forgotten."""
        today = self._now() // DAY_SECONDS
        for row in change.rows(_KEY):
            if row["day"] >= today:
                return row["key"]
        _forget(change, today)
        key = secrets.token_bytes(32)
        change.execute("INSERT INTO address_key (day, key) VALUES (?, ?)", (today, key))
        return key

    def _read(self, change: Transaction, whos: Sequence[str]) -> dict[str, _Spent]:
        return _spent(change.rows(*_reading(whos)), whos, self._now())

    def _write(self, change: Transaction, spent: Mapping[str, _Spent]) -> None:
        """Write rows in one statement: each has the writer's thread wait for Python while others run."""
        values = [value for who, each in spent.items() for value in (who, *astuple(each))]
        change.execute(_WRITE + ", ".join([_ROW] * len(spent)), values)

    def _reserve(self, change: Transaction, owner: Owner, conversation_id: str) -> None:
        whos = self._counted(change, owner)
        self._admit(change, owner, whos)
        spent = self._read(change, whos)
        for who, each in spent.items():
            if sentence := _refusal(each, self._allowed(who)[0], self._now(), who):
                raise LimitReached(sentence)
        self._write(change, {who: each.holding(self._held) for who, each in spent.items()})
        address = next((who for who in whos if who.startswith(_ADDRESS)), None)
        change.execute(
            "INSERT OR REPLACE INTO reservation (conversation_id, owner, address, tokens, micros) "
            "VALUES (?, ?, ?, ?, ?)",
            (conversation_id, owner, address, self._held.tokens, self._held.micros),
        )

    def _admit(self, change: Transaction, owner: Owner, whos: Iterable[str]) -> None:
        """Count an owner of whom nothing is known at the address, if an hour allows one more."""
        most = self._address.visitors_per_hour
        address = next((who for who in whos if who.startswith(_ADDRESS)), None)
        if most is None or address is None or change.rows(_IS_KNOWN, {"owner": owner}):
            return
        spent = self._read(change, [address])[address]
        if spent.hour_visitors >= most:
            wait = _span(spent.hour_began + HOUR_SECONDS - self._now())
            raise LimitReached(
                f"Your network can have {_counted(most, 'new visitor')} an hour. This is possible again in {wait}, "
                "and at once in a browser that has been here before."
            )
        self._write(change, {address: replace(spent, hour_visitors=spent.hour_visitors + 1)})

    @contextmanager
    def _reserving(self, change: Transaction, owner: Owner, conversation_id: str) -> Generator[None, None, None]:
        self._reserve(change, owner, conversation_id)
        with self._keeping(change, owner):
            yield

    @contextmanager
    def _admitting(self, change: Transaction, owner: Owner) -> Generator[None, None, None]:
        self._admit(change, owner, self._counted(change, owner))
        with self._keeping(change, owner):
            yield

    @contextmanager
    def _keeping(self, change: Transaction, owner: Owner) -> Generator[None, None, None]:
        if not self._keeps:
            yield
            return
        before = holding_of(change, owner)
        yield
        # Asked afterwards, when it is known how much it is; then all of it is undone.
        if sentence := self._full(before, holding_of(change, owner)):
            raise LimitReached(sentence)

    def _full(self, before: Holding, kept: Holding) -> str | None:
        """Why what was stored can't be kept; `None` when it can."""
        most = self._visitor.conversations
        if most is not None and kept.conversations > max(most, before.conversations):
            return f"{_counted(most, 'conversation')} can be kept here for you. Delete one, or go on in one of them."
        for used, megabytes, whose in (
            (kept.bytes, self._visitor.storage_mb, " for you"),
            (kept.in_all, self._total.storage_mb, ""),
        ):
            if megabytes is not None and used > megabytes * 1_000_000:
                size = size_text(round(megabytes * 1_000_000))
                return f"At most {size} can be kept here{whose}, and this would be more. Delete conversations first."
        return None

    def _settle(self, change: Transaction, conversation_id: str, used: Spending) -> None:
        for row in change.rows("SELECT * FROM reservation WHERE conversation_id = ?", (conversation_id,)):
            held = Spending(row["tokens"], row["micros"])
            whos = [who for who in (row["owner"], row["address"], _ALL) if who is not None]
            self._write(change, {who: each.after(held, used) for who, each in self._read(change, whos).items()})
            change.execute("DELETE FROM reservation WHERE conversation_id = ?", (conversation_id,))


def limits_from(settings: Settings, database: Database, *, public: bool) -> Limits:
    """The limits that settings name. Those that they don't are safe ones where others can reach the chat, else none."""
    visitor = VisitorAllowance.parse(settings.visitor_limits, VISITOR if public else None)
    address = AddressAllowance.parse(settings.address_limits, ADDRESS if public else None)
    total = TotalAllowance.parse(settings.total_limits, TOTAL if public else None)
    reply = ReplyAllowance.parse(settings.reply_limits, REPLY if public else OWN_REPLY)
    return Limits(database, visitor, address, total, reply if public or settings.reply_limits else None)


def _held(reply: ReplyAllowance) -> Spending:
    """What is held for a reply until it is known what it used."""
    return Spending(
        HELD.tokens if reply.tokens is None else reply.tokens,
        HELD.micros if reply.dollars is None else micros(reply.dollars),
    )


def _reading(whos: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The query of rows, and its parameters."""
    return f"SELECT * FROM spending WHERE who IN ({', '.join('?' * len(whos))})", whos  # noqa: S608  # marks only


def _spent(rows: Iterable[sqlite3.Row], whos: Iterable[str], now: int) -> dict[str, _Spent]:
    """What was used by each: nothing by one that has no row."""
    found = {row["who"]: _Spent(**{name: row[name] for name in _COLUMNS}) for row in rows}
    return {who: found.get(who, _Spent(0)).at(now) for who in whos}


def _hashed(address: str, key: bytes) -> str:
    """The row of an address: nobody who has not the day's key can tell which address it is."""
    return _ADDRESS + hashlib.blake2b(address.encode(), key=key, digest_size=16).hexdigest()


def _forget(change: Transaction, today: int) -> None:
    """Forget the addresses of the days before."""
    change.execute(_FORGET, (today,))
    change.execute("DELETE FROM address_key WHERE day < ?", (today,))


def _shares(spent: _Spent, allowance: Allowance) -> list[tuple[float, str]]:
    """The parts that are left of the limits for a day, and how to say them."""
    return [
        ((share := max(0, may - used) / may), text(max(0, may - used), may, share))
        for used, may, text in (
            (spent.messages, allowance.messages_per_day, _messages_left),
            (spent.tokens, allowance.tokens_per_day, _tokens_left),
            (spent.micros, micros(allowance.dollars_per_day or 0), _dollars_left),
        )
        if may
    ]


def _refusal(spent: _Spent, allowance: Allowance, now: int, row: str) -> str | None:
    """Why whoever is counted in a row can't have one more reply, and when they can; `None` when they can."""
    if row == _ALL:
        who, has, whose = "This chat", "has", ""
    elif row.startswith(_ADDRESS):
        who, has, whose = "Your network", "has", " for your network"
    else:
        who, has, whose = "You", "have", " for you"
    tomorrow = f"This is possible again at midnight UTC, in {_span((spent.day + 1) * DAY_SECONDS - now)}."
    if _is_used_up(spent.messages, allowance.messages_per_day):
        most = _counted(allowance.messages_per_day or 0, "message")
        return f"{who} {has} had {most} today, as many as a day allows. {tomorrow}"
    dollars = None if allowance.dollars_per_day is None else micros(allowance.dollars_per_day)
    for used, held, may, most in (
        (spent.tokens, spent.held_tokens, allowance.tokens_per_day, _counted(allowance.tokens_per_day or 0, "token")),
        (spent.micros, spent.held_micros, dollars, _money(dollars or 0)),
    ):
        if _is_used_up(used, may):
            return f"{who} {has} used {most} today, as much as a day allows. {tomorrow}"
        if _is_used_up(used + held, may):
            written = f"are being written{whose}"
            return f"The replies that {written} may use what is left for today. Try again when one of them has ended."
    if _is_used_up(spent.running, allowance.runs):
        most = _counted(allowance.runs or 0, "reply", "replies")
        return f"{who} can have {most} written at a time. Try again when one of them has ended."
    if _is_used_up(spent.minute_messages, allowance.messages_per_minute):
        most = _counted(allowance.messages_per_minute or 0, "message")
        wait = _span(spent.minute_began + MINUTE_SECONDS - now)
        return f"{who} can have {most} a minute. This is possible again in {wait}."
    return None


def _is_used_up(used: int, may: int | None) -> bool:
    return may is not None and used >= may


def _messages_left(left: int, may: int, share: float) -> str:
    return f"{left:,} of {_counted(may, 'message')} left today"


def _tokens_left(left: int, may: int, share: float) -> str:
    return f"{math.floor(share * 100)}% of {_counted(may, 'token')} left today"


def _dollars_left(left: int, may: int, share: float) -> str:
    return f"{_money(left)} of {_money(may)} left today"


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _money(millionths: int) -> str:
    return f"${millionths / 1_000_000:,.2f}"


def _span(seconds: int) -> str:
    """How long something takes, in words: to the second up to two minutes, then to the minute."""
    if seconds <= 2 * MINUTE_SECONDS:
        return _counted(max(1, seconds), "second")
    hours, minutes = divmod(math.ceil(seconds / MINUTE_SECONDS), 60)
    days, hours = divmod(hours, 24)
    words = [_counted(number, unit) for number, unit in ((days, "day"), (hours, "hour"), (minutes, "minute")) if number]
    return " and ".join(words[:2])
