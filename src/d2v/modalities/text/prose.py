"""English prose out of source code: docstrings, other texts between quotes, comments, and pages about a package.

Nothing is imported or run. A text is cut into paragraphs at blank lines, at items of lists and described parameters,
and where the indentation changes. Markup (reStructuredText, Markdown, Doxygen, HTML) is taken out. Sentences stay if
they are English words with few names of code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc

from d2v.modalities.text.acceptability import split_sentences

FEWEST_CHARACTERS = 40  # of a text that is looked at
FEWEST_WORDS, MOST_WORDS = 5, 80  # of a sentence
PLAIN_SHARE = 0.85  # of a sentence's words that must be letters only
COMMON_SHARE = 1 / 8  # of a sentence's words that must be among COMMON: leaves out headings, lists and other languages

PYTHON_SUFFIXES = (".py", ".pyi", ".pyx", ".pxd", ".pxi")
C_SUFFIXES = (".h", ".hpp", ".cuh", ".cc", ".cpp", ".cu")
PAGE_SUFFIXES = (".md", ".rst")
SUFFIXES = (*PYTHON_SUFFIXES, *C_SUFFIXES, *PAGE_SUFFIXES)

COMMON = frozenset(
    (
        *("a", "all", "an", "and", "any", "are", "as", "at", "be", "but", "by", "can", "each", "for", "from", "has"),
        *("have", "if", "in", "into", "is", "it", "its", "may", "not", "of", "on", "one", "only", "or", "other"),
        *("should", "than", "that", "the", "this", "to", "used", "was", "were", "when", "which", "will", "with", "you"),
    )
)
WORD = re.compile(r"[A-Za-z]+(?:['\u2019-][A-Za-z]+)*")
EDGES = "\"'(),;:.!?"
CODE = re.compile(r"[{}\[\]\\|<>=`~^@$*+&%]|::|--|\.\.|//|\w/\w+/|https?:|www\.|\(\)\.|\w\((?!s?\))")
LEGAL = re.compile(r"licen[cs]e|copyright|warrant(y|ies)|redistribut|liab(le|ility)|all rights reserved", re.IGNORECASE)

BLANK = re.compile(r"\n[ \t]*(?:\n[ \t]*)+(?=\S|\Z|[ \t])")
ENDS_SENTENCE = re.compile(r"[\w)>\]`\"'*][.!?](?=\s|\Z)")
RULE = re.compile(r"[=\-~^*#+.\"'`_]{3,}")
ITEM = re.compile(
    r"(?:[-*+\u2022]|\(?\d{1,2}[.)]|\(?[a-z][.)])\s+"  # of a list
    r"|:[a-z]+(?: [^:]*)?:\s*"  # :param name:
    r"|[@\\](?:t?param(?:\[[\w,]+\])?|retval|throws)\s+\S+\s*|[@\\](?:returns?|brief|note|see|details|warning)\b\s*"
    r"|\*{0,2}`{0,2}\*?[\w.]+`{0,2}\*{0,2}(?: \([^)]*\))?:\s+(?=[A-Z])"  # name (type): of Google's style
    r"|\.\. [\w-]+::\s*"  # a directive
    r"|#{1,6} |>\s"  # headings and quotations of Markdown
)
MARKS = [
    (re.compile(r":[a-zA-Z][\w:+-]*:`[~!.]*([^`<]+?)\s*(?:<[^>`]*>)?`"), r"\1"),  # :class:`~a.B`
    (re.compile(r"`([^`<]+?)\s*<[^>`]*>`__?"), r"\1"),  # `text <address>`_
    (re.compile(r"!?\[([^\]\[]+)\]\([^)\s]*\)"), r"\1"),  # [text](address)
    (re.compile(r"\s?\[[\w#*, -]{1,8}\]_"), ""),  # [1]_
    (re.compile(r"</?[a-zA-Z][^<>]{0,200}>"), ""),  # HTML
    (re.compile(r"``?([^`]*)`?`(?:__?(?!\w))?"), r"\1"),  # ``code``, `name`_
    (re.compile(r"(?<!\w)(\*\*?)(?=\S)([^*]{1,200}?)(?<=\S)\1(?!\w)"), r"\2"),  # **strong**
    (re.compile(r"[@\\](?:[acpbe]|ref|link|endlink)\s+"), ""),  # Doxygen's words
    (re.compile(r"(?<!\w):[a-z]+:(?=\w)"), ""),  # :method:name
    (re.compile(r"&quot;"), '"'),
]
QUOTED_OR_COMMENT = re.compile(
    r"""^[ \t]*\#(?P<comment>[^\n]*) | \#[^\n]*  # a comment behind code has no group
    | (?P<prefix>\b[rRbBfFuUtT]{1,2})?(?:
      \"{3}(?P<long>[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*)\"{3}
    | '{3}(?P<long_too>[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*)'{3}
    | "(?P<short>[^"\\\n]*(?:\\.[^"\\\n]*)*)"
    | '(?P<short_too>[^'\\\n]*(?:\\.[^'\\\n]*)*)')""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
ESCAPE = re.compile(r"\\(.)", re.DOTALL)
ESCAPES = {"n": "\n", "t": "\t", "'": "'", '"': '"', "\\": "\\", "\n": ""}
C_COMMENT = re.compile(r"/\*(.*?)\*/|((?:^[ \t]*//[^\n]*(?:\n|\Z))+)", re.DOTALL | re.MULTILINE)
C_EDGE = re.compile(r"^[ \t]*(?:///?[!<]?|\*+!?<?|!<?)(?=\s|$) ?", re.MULTILINE)


def prose(name: str, content: str) -> Iterator[str]:
    """Paragraphs of prose in a file, in their order, each in one line.

    Args:
        name: of the file; its end, one of SUFFIXES, says what it is, and any other is a page.
        content: the file.
    """
    texts: Iterator[str]
    if name.endswith(PYTHON_SUFFIXES):
        texts = _python_texts(content)
    elif name.endswith(C_SUFFIXES):
        texts = (cleandoc(C_EDGE.sub("", match[1] or match[2] or "")) for match in C_COMMENT.finditer(content))
    else:
        texts = iter([content])
    for text in texts:
        if len(text) >= FEWEST_CHARACTERS:
            yield from paragraphs(text)


def paragraphs(text: str) -> Iterator[str]:
    """Runs of good sentences of a text without its markup.

    Example:
        >>> list(paragraphs("See :class:`~a.Tree`.\\n\\nx : int\\n    The number of leaves that a tree has at first."))
        ['The number of leaves that a tree has at first.']
    """
    for block in _blocks(text):
        run: list[str] = []
        for sentence in split_sentences(_without_marks(block)):
            if is_prose(sentence):
                run.append(sentence)
            elif run:
                yield " ".join(run)
                run = []
        if run:
            yield " ".join(run)


def is_prose(sentence: str) -> bool:
    """Whether a sentence, with single spaces, begins and ends as one and is made of English words, few names of code
    and no words of the law."""
    words = sentence.split(" ")
    if not (FEWEST_WORDS <= len(words) <= MOST_WORDS and sentence.isascii()):
        return False
    if not sentence.lstrip("\"'(")[:1].isupper() or sentence.rstrip("\"')")[-1:] not in (".", "!", "?"):
        return False
    if CODE.search(sentence) or LEGAL.search(sentence) or sentence.count("(") != sentence.count(")"):
        return False
    bare = [word.strip(EDGES) for word in words]
    common = sum(word.lower() in COMMON for word in bare)
    return common >= COMMON_SHARE * len(words) and sum(map(_is_word, bare)) >= PLAIN_SHARE * len(words)


def _is_word(word: str) -> bool:
    return WORD.fullmatch(word) is not None and (word[1:].islower() or word.isupper() or len(word) == 1 or "-" in word)


# ------------------------------------------------------------------------------------------ from files


def _python_texts(content: str) -> Iterator[str]:
    """Texts between quotes and comments that have lines for themselves; those that follow each other are one."""
    pieces: list[str] = []
    end, kind = 0, ""
    for match in QUOTED_OR_COMMENT.finditer(content):
        group = (match.lastgroup or "").removesuffix("_too")
        gap, end = content[end : match.start()], match.end()
        if group != kind or group == "long" or gap.count("\n") > 1 or not (gap.isspace() or not gap):
            yield cleandoc("".join(pieces))
            pieces = []
        kind, text, prefix = group, match[match.lastgroup or 0], (match["prefix"] or "").lower()
        if group == "comment":
            pieces.append(text.lstrip("#").removeprefix(":").removeprefix(" ") + "\n")
        elif group and "b" not in prefix:
            pieces.append(text if "r" in prefix else ESCAPE.sub(_unescaped, text))
    yield cleandoc("".join(pieces))


def _unescaped(match: re.Match[str]) -> str:
    return ESCAPES.get(match[1], match[0])


def _blocks(text: str) -> Iterator[str]:
    """Lines that belong together, in one line."""
    for part in BLANK.split(text):
        if ENDS_SENTENCE.search(part):
            yield from _blocks_of_part(part.expandtabs(4))


def _blocks_of_part(part: str) -> Iterator[str]:
    """A part without blank lines, cut where an item begins and where the indentation changes. The second line of an
    item may hang."""
    lines: list[str] = []
    indent, hangs = 0, False
    for line in part.split("\n"):
        bare = line.strip()
        if RULE.fullmatch(bare):  # the line above it is a heading, or part of a table
            lines = []
            continue
        deeper = len(line) - len(line.lstrip())
        item = ITEM.match(bare)
        if lines and (item or (deeper != indent and not (hangs and len(lines) == 1 and deeper > indent))):
            yield " ".join(lines)
            lines = []
        if not lines:
            hangs = item is not None
            bare = bare[item.end() :] if item else bare
        indent = deeper
        if bare:
            lines.append(bare)
    if lines:
        yield " ".join(lines)


def _without_marks(block: str) -> str:
    for mark, replacement in MARKS:
        block = mark.sub(replacement, block)
    return " ".join(block.split())
