"""Words are compared without regard to case, accents and how a character is written, in all scripts."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.words import LONGEST_WORD, composed, words, words_in


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Crème BRÛLÉE", "creme brulee"),
        ("straße STRASSE", "strasse strasse"),
        ("send_mail, don't!", "send mail don t"),
        ("Ελλάδα ΟΔΟΣ οδος", "ελλαδα οδοσ οδοσ"),
        ("Ёлка İstanbul", "елка istanbul"),
        ("שָׁלוֹם مُحَمَّد", "שלום محمد"),
        ("\uff37\uff29\uff24\uff25 \ufb01ne m²", "wide fine m2"),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zero width"),
        ("nul\x00byte", "nul byte"),
        ("日本語 v2", "日 本 語 v2"),
        ("ขาว ข้าว", "ข า ว ข ้ า ว"),
        ("👍🏽 ok ❤️", "👍 ok ❤"),
        ("3.14 C++", "3 14 c"),
    ],
)
def test_a_text_gives_its_words(text: str, expected: str) -> None:
    assert words(text) == expected.split(" ")


def test_vowels_that_are_marks_are_not_left_out() -> None:
    assert words("की") != words("का")


def test_a_syllable_of_hangul_begins_with_what_is_typed_of_it() -> None:
    assert words("학교")[0].startswith(words("하")[0])


def test_a_long_word_is_the_same_as_one_that_begins_alike() -> None:
    assert words("x" * 10_000) == words("X" * LONGEST_WORD + "y")


@given(st.text())
def test_the_same_words_are_found_at_their_places(text: str) -> None:
    text = composed(text)
    assert [word.word for word in words_in(text)] == words(text)
    for word in words_in(text):
        assert word.word in words(text[word.start : word.end])


@given(st.text())
def test_how_a_text_is_written_in_unicode_makes_no_difference(text: str) -> None:
    assert words(unicodedata.normalize("NFC", text)) == words(unicodedata.normalize("NFD", text))


@given(st.text())
def test_words_hold_nothing_that_means_something_to_the_index(text: str) -> None:
    assert not set("".join(words(text))) & set("\"'*:^()/+- \x00")
