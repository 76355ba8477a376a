"""Titles as text: one safe line, whatever a person or a model wrote. Pure."""

import re
import unicodedata

LONGEST_TITLE = 60
"""Characters of a title that the chat makes: of a prompt's first words, or of what a model wrote."""

LONGEST_NAME = 120
"""Characters of a title that a person gives."""

_LOOKED_AT = 20_000
"""Characters of which a title is made: what comes after them can't get into it."""

_JOINERS = "\u200c\u200d"
"""What is in the words of some languages, and between the parts of an emoji."""

_WRAPPING = "\"'`*_#“”„«»「」『』 \t"
"""What models put around a title."""


def one_line(text: str, longest: int) -> str:
    """The text on one line of at most `longest` characters, and one more that says that it was longer.

    Nothing that controls, reorders or hides what is around it stays: line ends, marks of direction, half characters.
    Empty when nothing can be seen of it.
    """
    words = "".join(" " if character.isspace() else character for character in text[:_LOOKED_AT])
    line = " ".join("".join(filter(_is_shown, words)).split())
    if not any(unicodedata.category(character)[0] in "LNPS" for character in line):
        return ""
    if len(line) <= longest:
        return line
    return f"{line[:longest].rpartition(' ')[0] or line[:longest]}…"


def first_words(prompt: str) -> str:
    """A title made of a prompt; empty when it has no words."""
    return one_line(prompt.strip(), LONGEST_TITLE)


def from_model(written: str) -> str:
    """A title made of what a model wrote when it was asked for one; empty when it wrote none."""
    lines = [line.strip(_WRAPPING) for line in written.splitlines()]
    line = next(filter(None, lines), "")
    line = re.sub(r"^(?:title|titel|titre|título)\s*:\s*", "", line, flags=re.IGNORECASE)
    return one_line(line.strip(_WRAPPING).removesuffix("."), LONGEST_TITLE)


def _is_shown(character: str) -> bool:
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn"):
        return True
    return character in _JOINERS or "\U000e0020" <= character <= "\U000e007f"  # The latter are in flags.
