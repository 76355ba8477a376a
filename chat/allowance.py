"""What may be used of a chat: by each visitor, by all from one address, by all together, and by one reply. As text:

    messages_per_day=50, dollars_per_day=0.5, runs=off

What is not named keeps its default; `off` instead of a number is no limit, and `off` alone is none at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar, Self

OFF = "off"


@dataclass(frozen=True)
class Limited:
    """Limits by their names; `None` is no limit."""

    IN_DECIMALS: ClassVar[frozenset[str]] = frozenset(("dollars", "dollars_per_day", "storage_mb"))
    """The limits that need not be whole numbers."""

    @classmethod
    def parse(cls, text: str, default: Self | None = None) -> Self:
        """The limits that a setting names, and for the others those of `default`.

        Raises:
            ValueError: If it has another form, or names a limit that isn't there. The message is a sentence.
        """
        if text.strip().lower() == OFF:
            return cls()
        limits = {} if default is None else {each.name: getattr(default, each.name) for each in fields(default)}
        for item in filter(None, map(str.strip, text.split(","))):
            name, separator, value = map(str.strip, item.partition("="))
            if not separator or name not in cls.names():
                known = ", ".join(cls.names())
                raise ValueError(f"{item!r} is no limit; write name=number or name={OFF}, with one of {known}")
            limits[name] = None if value.lower() == OFF else _number(name, value, cls.IN_DECIMALS)
        return cls(**limits)

    @classmethod
    def check(cls) -> Callable[[str], str]:
        """A validator of a setting's text, which stays text."""

        def check(text: str) -> str:
            cls.parse(text)
            return text

        return check

    def __str__(self) -> str:
        limits = {name: getattr(self, name) for name in self.names()}
        return ",".join(f"{name}={limit}" for name, limit in limits.items() if limit is not None) or OFF

    @classmethod
    def names(cls) -> list[str]:
        """The limits that there are."""
        return [each.name for each in fields(cls)]

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in self.names())


@dataclass(frozen=True)
class Allowance(Limited):
    """What somebody may use. Days are those of UTC; runs are replies that are being written, or wait for it."""

    messages_per_minute: int | None = None
    messages_per_day: int | None = None
    tokens_per_day: int | None = None
    dollars_per_day: float | None = None
    runs: int | None = None


@dataclass(frozen=True)
class VisitorAllowance(Allowance):
    """What each visitor may use, and keep."""

    conversations: int | None = None
    storage_mb: float | None = None


@dataclass(frozen=True)
class AddressAllowance(Allowance):
    """What all visitors from one network address may use who have not signed in, and how many new ones may write."""

    visitors_per_hour: int | None = None


@dataclass(frozen=True)
class TotalAllowance(Allowance):
    """What all visitors together may use, and the size of the database."""

    storage_mb: float | None = None


@dataclass(frozen=True)
class ReplyAllowance(Limited):
    """What one reply may use: requests to the model, tool calls, tokens that are read and written, US dollars."""

    requests: int | None = None
    tool_calls: int | None = None
    tokens: int | None = None
    dollars: float | None = None


VISITOR = VisitorAllowance(
    messages_per_minute=10,
    messages_per_day=200,
    tokens_per_day=500_000,
    dollars_per_day=1,
    runs=3,
    conversations=500,
    storage_mb=200,
)
"""What each visitor may use of a chat that others can reach, when its owner set nothing else."""

ADDRESS = AddressAllowance(
    messages_per_minute=30,
    messages_per_day=600,
    tokens_per_day=1_500_000,
    dollars_per_day=3,
    runs=12,
    visitors_per_hour=30,
)
"""What all visitors from one address may use of such a chat: a class or an office has one, and so has a stranger who
throws cookies away."""

TOTAL = TotalAllowance(
    messages_per_minute=120, messages_per_day=5_000, tokens_per_day=5_000_000, dollars_per_day=10, storage_mb=10_000
)
"""What all visitors together may use of such a chat."""

REPLY = ReplyAllowance(requests=50, tool_calls=100, tokens=100_000, dollars=0.5)
"""What one reply may use in such a chat."""

OWN_REPLY = ReplyAllowance(requests=50)
"""What one reply may use where only this machine reaches the chat: as in Pydantic AI."""


def _number(name: str, value: str, in_decimals: frozenset[str]) -> float:
    try:
        number = float(value) if name in in_decimals else int(value)
    except ValueError:
        number = 0
    if not 0 < number < 2**53:
        kind = "a number" if name in in_decimals else "a whole number"
        raise ValueError(f"{name} is {value!r}; it takes {kind} above 0, or {OFF}")
    return number
