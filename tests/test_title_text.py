"""Whatever somebody wrote, a title made of it is one line that is safe to show, and not too long."""

import pytest

from chat.title_text import LONGEST_NAME, LONGEST_TITLE, first_words, from_model, one_line


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("Why?", "Why?"),
        ("  Two \n\n lines\tof it ", "Two lines of it"),
        ("x" * LONGEST_TITLE, "x" * LONGEST_TITLE),
        ("x" * (LONGEST_TITLE + 1), "x" * LONGEST_TITLE + "…"),
        ("word " * 1000, "word " * 11 + "word…"),
        ("\n" * 100_000 + "late words", "late words"),
        ("  \n ", ""),
    ],
)
def test_a_title_is_the_first_words_of_the_prompt(prompt: str, title: str) -> None:
    assert first_words(prompt) == title


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("\u202eevil\u202c \u2066x\u2069 \u200fמה\u200e", "evil x מה"),
        ("nul \x00 bell \x07 \x1b[31mred", "nul bell [31mred"),
        ("one\u2028two\u2029three\r\nfour\x85five", "one two three four five"),
        ("half \ud83d a pair", "half a pair"),
        ("👩🏽\u200d🚀 नमस्\u200cते", "👩🏽\u200d🚀 नमस्\u200cते"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("\u200b\u200e \u2060\ufeff\u0301", ""),
        ("long " * 2000, "long " * 23 + "long…"),
        ("y" * 10_000, "y" * LONGEST_NAME + "…"),
    ],
)
def test_nothing_that_hides_or_reorders_what_is_around_it_stays_in_a_title(written: str, line: str) -> None:
    assert one_line(written, LONGEST_NAME) == line


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Tides in Saint-Malo", "Tides in Saint-Malo"),
        ('"Tides in Saint-Malo."', "Tides in Saint-Malo"),
        ("\n\n**Title: Tides in Saint-Malo**\n\nThis title says what it is about.", "Tides in Saint-Malo"),
        ("# Marées à Saint-Malo", "Marées à Saint-Malo"),
        ("「サン・マロの潮」", "サン・マロの潮"),
        ("Is it high tide?", "Is it high tide?"),
        ("``` \n ---", "---"),
        ("", ""),
        ("word " * 1000, "word " * 11 + "word…"),
    ],
)
def test_of_what_a_model_wrote_only_the_title_is_taken(written: str, title: str) -> None:
    assert from_model(written) == title
