"""A snippet shows where in a text most of what was searched stands, with it marked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.search import phrases_of
from chat.snippet import LENGTH, snippet
from chat.words import composed


def marked(text: str, query: str) -> str:
    return "".join(f"[{piece.text}]" if piece.marked else piece.text for piece in snippet(text, phrases_of(query)))


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("The sky is blue.", "sky ", "The [sky] is blue."),
        ("Crème brûlée is sweet", "creme bru", "[Crème] [brûlée] is sweet"),
        ("send_mail was called", "SEND_MAIL", "[send_mail] was called"),
        ("東京大学に行く", "大学", "東京[大学]に行く"),
        ("no hit here", "other", "no hit here"),
        ("<b>bold</b>\n\n  text", "text", "<b>bold</b> [text]"),
        ("", "x", ""),
    ],
)
def test_what_was_searched_is_marked(text: str, query: str, expected: str) -> None:
    assert marked(text, query) == expected


def test_of_a_long_text_the_part_where_most_of_the_words_stand_is_shown() -> None:
    filling = "Lorem ipsum dolor sit amet. " * 1000
    shown = marked(f"{filling}only apples. {filling}apples and pears. {filling}", "apples pears")
    assert "[apples] and [pears]. Lorem" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) < LENGTH + 10


@given(st.text(), st.text())
def test_pieces_add_up_to_the_text(text: str, query: str) -> None:
    shown = "".join(piece.text for piece in snippet(text, phrases_of(query), length=10_000))
    assert "".join(shown.removeprefix("…").split()) in "".join(composed(text).split())
