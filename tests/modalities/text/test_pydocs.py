"""The corpus that ships with Python."""

from __future__ import annotations

import sys

from d2v.modalities.text import pydocs
from d2v.modalities.text.pydocs import docstrings, pydocs_source

SOURCE = b'''
"""Module
    text."""
import this_is_never_imported
class A:
    "Class."
    def f(self):
        """Method."""
        async def g(): "Inner."
def h():
    """Class."""
'''


def test_docstrings_in_their_order_and_each_once() -> None:
    assert docstrings(SOURCE) == ["Module\ntext.", "Class.", "Method.", "Inner."]
    assert docstrings(b"def broken(:") == []
    assert docstrings(b"a\0b") == []
    assert docstrings(b"x = 1") == []


def test_a_large_corpus_that_is_the_same_every_time() -> None:
    before = set(sys.modules)
    source = pydocs_source()
    items = list(source.items(0))
    assert not {name for name in set(sys.modules) - before if name.startswith(("tkinter", "idlelib", "turtle", "this"))}
    assert source.total == len(items) == len({item.key for item in items})
    assert {item.key.split("/")[0] for item in items} == {"topics", "modules"}
    assert sum(len(item.data) for item in items) > 1_500_000
    assert all(item.label is None and item.split is None for item in items)
    assert [item.key for item in source.items(700)] == [item.key for item in items[700:]]

    pydocs._documents.cache_clear()
    assert pydocs_source().fingerprint == source.fingerprint


def test_modules_have_their_dotted_names() -> None:
    keys = {item.key for item in pydocs_source().items(0)}
    assert {"topics/assert", "modules/json", "modules/json.decoder", "modules/textwrap"} <= keys
    assert not any(".test." in key or "site-packages" in key for key in keys)
