"""Whatever a client can send in the place of what a page does."""

import json
from typing import Any

from hypothesis import strategies as st

STRANGE = ("", "\x00", "\ud800", "\u202e", "a" * 5_000, "../..", "%00")
TEXT = st.text(st.characters(), max_size=30) | st.sampled_from(STRANGE)
"""Also half a surrogate pair, which JSON can hold and UTF-8 can't."""

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
"""All that JSON can hold."""


def objects(*names: str, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have some fields of these names, with anything in them, or with one of these values."""
    fields = {name: values.get(name, st.nothing()) | ANYTHING for name in (*names, *values)}
    return st.fixed_dictionaries({}, optional=fields)


def bodies(value: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Requests' bodies: JSON, what is nearly JSON, and what is none."""
    written = (value | ANYTHING).map(lambda each: json.dumps(each).encode())
    return written | written.map(lambda each: each[:-1]) | st.binary(max_size=50) | st.just(b"[" * 5_000)
