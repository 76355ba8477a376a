"""The words of a text, as the search compares them: without regard to case, accents or how a character is written.

Each character becomes what `_Forms` says, whatever stands beside it; so a hit can be marked in the text as it was
written. Words are what stands between spaces and punctuation. Scripts that write no spaces (Chinese, Japanese, Thai
and others), and symbols such as emoji, give a word for each character: what is searched there is a row of them, which
needs no dictionary, finds any part of a text, and costs one index instead of two.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

LONGEST_WORD = 64
"""Characters of a word that count: longer ones are the same word if they begin alike."""

_WITHOUT_SPACES = (
    "CJK UNIFIED",
    "CJK COMPATIBILITY",
    "HIRAGANA",
    "KATAKANA",
    "BOPOMOFO",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
    "JAVANESE",
    "BALINESE",
    "TAI ",
    "NEW TAI",
    "YI ",
)
"""How Unicode names the letters of scripts that write no spaces between words."""

_ZERO_WIDTH_SPACE = "\u200b"


class _Forms(dict[int, str]):
    """What each character becomes, by its number: letters and digits, spaces around it, or nothing. Made on demand."""

    def __missing__(self, number: int) -> str:
        self[number] = form = "".join(map(_form, _decomposed(chr(number))))
        return form


class Word(NamedTuple):
    """A word in a text, and the characters from `start` to before `end` that it stands for."""

    word: str
    start: int
    end: int


def composed(text: str) -> str:
    """The text with each character in its shortest form: the one that `words` and `words_in` take apart."""
    return unicodedata.normalize("NFC", text)


def words(text: str) -> list[str]:
    """The words of a text, in its order."""
    return [word[:LONGEST_WORD] for word in composed(text).translate(_FORMS).split()]


def words_in(text: str) -> Iterator[Word]:
    """The words of a text that `composed` made, and where they are."""
    for between in _BETWEEN_SPACES.finditer(text):
        run, start = between[0], between.start()
        form = run.translate(_FORMS)
        if " " in form:
            yield from _words_in_run(run, start)
        elif form:
            yield Word(form[:LONGEST_WORD], start, between.end())


def _words_in_run(run: str, offset: int) -> Iterator[Word]:
    word, start, end = "", 0, 0
    for index, character in enumerate(run, offset):
        # What is before a space ends a word; what is after it begins one.
        first, *others = _FORMS[ord(character)].split(" ")
        if first:
            start = start if word else index
            word, end = word + first, index + 1
        for other in others:
            if word:
                yield Word(word[:LONGEST_WORD], start, end)
            word, start, end = other, index, index + 1
    if word:
        yield Word(word[:LONGEST_WORD], start, end)


def _decomposed(character: str) -> str:
    """A character's letters and marks. What has a compatible form becomes it, as a wide A becomes a."""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())


def _form(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "M":
        return "" if _is_accent(character) else _spaced(character)
    if category[0] in "LN" or category == "Co":
        return _spaced(character)
    if category == "Cf" and character != _ZERO_WIDTH_SPACE:
        return ""  # Inside a word: a soft hyphen, a joiner, a mark of direction.
    if category == "Sk" and not character.isascii():
        return ""  # The colour of an emoji.
    if category[0] == "S" and not character.isascii():
        return f" {character} "
    return " "


def _is_accent(mark: str) -> bool:
    """Whether a mark is left out: accents, and the points of Hebrew and Arabic; not the vowels of other scripts."""
    place = unicodedata.combining(mark)
    return place >= 200 or 10 <= place <= 36 or "VARIATION SELECTOR" in unicodedata.name(mark, "")


def _spaced(character: str) -> str:
    alone = unicodedata.name(character, "").startswith(_WITHOUT_SPACES)
    return f" {character} " if alone else character


_FORMS = _Forms()
_BETWEEN_SPACES = re.compile(r"\S+")
