"""Prose out of source code, and near duplicates among its paragraphs."""

from __future__ import annotations

import argparse
import ast
import json
import textwrap
from inspect import cleandoc
from pathlib import Path
from types import ModuleType

import pytest

from d2v.modalities.text.duplicates import NearDuplicates
from d2v.modalities.text.prose import _python_texts, is_prose, paragraphs, prose

CLEAN = "The tree has a number of leaves when it is new."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (CLEAN, [CLEAN]),
        ("The tree has a number of\nleaves when it is new.", [CLEAN]),
        (f"{CLEAN}\n\n{CLEAN}", [CLEAN, CLEAN]),
        (f"leaves : int, optional\n    {CLEAN}\nroots : list\n    {CLEAN}", [CLEAN, CLEAN]),
        (f":param int leaves: {CLEAN}", [CLEAN]),
        (f"    leaves (int): The tree has a number of\n        leaves when it is new.\n    x: {CLEAN}", [CLEAN, CLEAN]),
        (f"@param[in] leaves {CLEAN}", [CLEAN]),
        ("- The tree has a number of\n  leaves when it is new.\n* Short.", [CLEAN]),
        ("The :class:`~tree <Tree>` has a `number`_ of ``leaves`` when it **is** new [1]_.", [CLEAN]),
        ("The [tree](a/b.html) has a <b>number</b> of leaves when *it* is new.", [CLEAN]),
        (f".. note:: {CLEAN}", [CLEAN]),
        (f"A heading that is of some words\n===============================\n{CLEAN}", [CLEAN]),
        (f"{CLEAN} See x[0] = {{}} for the rest of it. {CLEAN}", [CLEAN, CLEAN]),
        (">>> tree = Tree()\n>>> the_number_of(tree)\n3", []),
        ("+------+------+\n| The  | tree |\n+------+------+", []),
        ("Returns\n-------\nthe number of leaves", []),
    ],
)
def test_paragraphs(text: str, found: list[str]) -> None:
    assert list(paragraphs(text)) == found


@pytest.mark.parametrize(
    ("sentence", "good"),
    [
        (CLEAN, True),
        ("The leaf_count of a tree is not the number of all the things on it.", True),
        ("The leaf_count of old_trees is in all_leaves.", False),
        ("Call tree.grow(2) to see that it is of use.", False),
        ("the tree has a number of leaves when it is new.", False),
        ("The tree has a number of leaves when it is", False),
        ("The tree has (a number of leaves when it is new.", False),
        ("Der Baum hat viele Blätter, wenn er alt ist.", False),
        ("Leaves Branches Roots Stems Seeds Flowers Fruits Trunk.", False),
        ("The licence of the tree is as it was.", False),
        ("Too few of it.", False),
        ("See https://tree.org for the number of leaves of it.", False),
    ],
)
def test_is_prose(sentence: str, good: bool) -> None:
    assert is_prose(sentence) is good


def test_files_by_their_names() -> None:
    source = f'''
        x = 1  # {CLEAN}
        # The first comment has a line
        # and another one below it.
        def f():
            """{CLEAN}"""
            raise Error("The message is in two "
                        "pieces that belong together.")
            b"The bytes of it are not a text at all here."
            f"The value of it is {{x}} in the end of all."
    '''
    both = ["The first comment has a line and another one below it.", CLEAN]
    said = [*both, "The message is in two pieces that belong together."]
    assert list(prose("a/b.py", textwrap.dedent(source))) == said
    header = f"/**\n * \\brief {CLEAN}\n * @return {CLEAN}\n */\nint f();  // {CLEAN}\n"
    header += "// The first one has a line\n// and another one.\n"
    assert list(prose("b.h", header)) == [CLEAN, CLEAN, "The first one has a line and another one."]
    assert list(prose("METADATA", f"# A title of the page\n\n{CLEAN}\n")) == [CLEAN]


@pytest.mark.parametrize("module", [json, json.decoder, textwrap, argparse])
def test_texts_of_python_are_those_that_its_parser_finds(module: ModuleType) -> None:
    content = Path(str(module.__file__)).read_text()
    parsed = [node.value for node in ast.walk(ast.parse(content)) if isinstance(node, ast.Constant)]
    texts = {cleandoc(value) for value in parsed if isinstance(value, str) and "\n" in value.strip()}
    assert texts
    assert texts <= set(_python_texts(content))


def test_a_paragraph_of_known_runs_of_words_is_no_news() -> None:
    seen = NearDuplicates()
    first = "The number of leaves of a tree grows in spring and falls in autumn of the same year."
    assert seen.is_new(first)
    assert not seen.is_new(first.upper())
    assert not seen.is_new(first.replace("same", "very"))
    assert not seen.is_new(first.replace("autumn", "1984, autumn"))
    assert seen.is_new("The number of leaves of a bush says little about the wind that blows over its hill.")
    assert seen.is_new("A dog.")
    assert not seen.is_new("a dog")
    assert NearDuplicates().is_new(first)
