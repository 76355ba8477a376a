"""Limits are written as text in settings, and what can't be meant is refused with a sentence."""

import pytest

from chat.allowance import (
    ADDRESS,
    REPLY,
    TOTAL,
    VISITOR,
    AddressAllowance,
    Allowance,
    ReplyAllowance,
    TotalAllowance,
    VisitorAllowance,
)


def test_named_limits_replace_those_of_the_default_and_off_takes_one_away() -> None:
    default = Allowance(messages_per_day=200, runs=3)
    named = Allowance.parse("messages_per_day=50, dollars_per_day = 0.5,runs=off", default)
    assert named == Allowance(messages_per_day=50, dollars_per_day=0.5)
    assert Allowance.parse("", default) == default


def test_off_alone_is_no_limit_at_all() -> None:
    assert not VisitorAllowance.parse("off", VISITOR)


@pytest.mark.parametrize("limits", [VISITOR, ADDRESS, TOTAL, REPLY], ids=["visitor", "address", "total", "reply"])
def test_the_text_of_limits_is_what_a_setting_takes(limits: Allowance | ReplyAllowance) -> None:
    assert type(limits).parse(str(limits)) == limits


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "messages_per_hour=5",
            "'messages_per_hour=5' is no limit; write name=number or name=off, with one of messages",
        ),
        ("20", "'20' is no limit"),
        ("messages_per_day=0", "messages_per_day is '0'; it takes a whole number above 0, or off"),
        ("messages_per_day=2.5", "messages_per_day is '2.5'; it takes a whole number above 0"),
        ("dollars_per_day=nan", "dollars_per_day is 'nan'; it takes a number above 0"),
        ("dollars_per_day=$2", "dollars_per_day is '\\$2'; it takes a number above 0"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_is_one(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Allowance.parse(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (TotalAllowance, "conversations=5"),
        (TotalAllowance, "visitors_per_hour=5"),
        (AddressAllowance, "storage_mb=5"),
        (VisitorAllowance, "visitors_per_hour=5"),
    ],
)
def test_a_limit_that_a_setting_does_not_have_is_refused(kind: type[Allowance], text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is no limit; write name=number or name=off, with one of messages"):
        kind.parse(text)
