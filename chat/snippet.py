"""What is shown of a text that was found: the words around the place where most of what was searched stands, marked."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, takewhile

from chat.words import Word, composed, words, words_in

BEFORE = 30
"""Characters shown before the first hit: few, so that it is in sight where there is little room."""

LENGTH = 180
"""Characters of a snippet."""

_LOOKED_AT = 2_000
"""Characters in which hits are looked for at once. To find where words are takes longer than which they are."""

_OVERLAP = 200

_SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Piece:
    """A piece of a snippet: its text, on one line, and whether it is what was searched."""

    text: str
    marked: bool = False


@dataclass(frozen=True)
class Phrase:
    """Words that follow each other; with `begun`, the last is the beginning of one."""

    words: Sequence[str]
    begun: bool = False

    def is_at(self, found: Sequence[str], index: int) -> bool:
        """Whether it stands at a place among the words of a text."""
        *whole, last = self.words
        end = index + len(whole)
        if end >= len(found) or not (found[end].startswith(last) if self.begun else found[end] == last):
            return False
        return not whole or list(found[index:end]) == whole


def snippet(text: str, phrases: Sequence[Phrase], length: int = LENGTH) -> list[Piece]:
    """The part of a text where most of the phrases are, marked; its beginning where none is."""
    text = composed(text)
    start = _place(text, phrases)
    hits = _hits(words_in(text[start : start + _LOOKED_AT]), phrases)
    first = next(hits, None)
    if first is None:
        return list(_pieces(text, 0, min(len(text), length), []))
    begin = _beginning(text, start + first[0])
    end = min(len(text), begin + length)
    # Those that are not shown are not looked for.
    near = takewhile(lambda hit: start + hit[0] < end, chain([first], hits))
    return list(_pieces(text, begin, end, [(start + at, start + after) for at, after in near]))


def _place(text: str, phrases: Sequence[Phrase]) -> int:
    """Where the part of a text begins in which most of the phrases are."""
    most = place = 0
    for start in range(0, max(1, len(text) - _OVERLAP), _LOOKED_AT - _OVERLAP):
        found = words(text[start : start + _LOOKED_AT])
        count = sum(any(phrase.is_at(found, index) for index in range(len(found))) for phrase in phrases)
        if count > most:
            most, place = count, start
        if count == len(phrases):
            break
    return place


def _hits(found: Iterator[Word], phrases: Sequence[Phrase]) -> Iterator[tuple[int, int]]:
    """Where the phrases begin and end, without overlaps, in the text's order."""
    longest = max((len(phrase.words) for phrase in phrases), default=0)
    ahead = list(islice(found, longest))
    while ahead:
        here = [word.word for word in ahead]
        long = max((len(phrase.words) for phrase in phrases if phrase.is_at(here, 0)), default=0)
        if long:
            yield ahead[0].start, ahead[long - 1].end
        passed = max(1, long)
        ahead = [*ahead[passed:], *islice(found, passed)]


def _beginning(text: str, first: int) -> int:
    """Where to begin, so that what is at `first` is in sight: at a word, if there is one."""
    if first <= BEFORE:
        return 0
    space = _SPACES.search(text, first - BEFORE, first)
    return space.end() if space else first - BEFORE


def _pieces(text: str, begin: int, end: int, hits: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    at = begin
    before = "…" if begin else ""
    for hit, after in hits:
        if hit < at or hit >= end:
            continue
        if between := _line(before + text[at:hit]):
            yield Piece(between)
        before = ""
        yield Piece(_line(text[hit : min(after, end)]), marked=True)
        at = min(after, end)
    if rest := _line(before + text[at:end] + ("…" if end < len(text) else "")):
        yield Piece(rest)


def _line(text: str) -> str:
    return _SPACES.sub(" ", text)
