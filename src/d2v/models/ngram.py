"""N-gram language models of words with back-off: scoring, and ARPA files (ARPA back-off format, as SRILM and KenLM
write it).

An n-gram's number within its order is its row in the tables. It is found by its key, which joins the number of its
first n - 1 words (an n-gram of the order below) with the number of its last word. Logarithms are natural inside and
to base 10 in files.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from d2v.errors import DataError

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
LN_10 = math.log(10.0)
NEVER_LOG10 = -99.0  # what ARPA files write for a probability of zero, which `<s>` has
MISSING_UNKNOWN_LOG10 = -100.0  # of `<unk>` in a file without one, as KenLM has it

State = tuple[int, ...]
"""Numbers of the 1-, 2-, ... gram that end at the last word read; -1 where the model lacks it."""


@dataclass(frozen=True)
class Order:
    """All n-grams of one order n.

    Attributes:
        numbers: key -> number, from 0 in order.
        log_p: ln p(last word | words before), by number.
        backoff: ln of the back-off weight of the n-gram as a context, by number; zeros for the highest order.
    """

    numbers: dict[int, int]
    log_p: list[float]
    backoff: list[float]


@dataclass(frozen=True)
class Perplexity:
    """How well a model foresees sentences; `</s>` counts as a word.

    Attributes:
        value: exp of the mean of -ln p over all words, the unknown ones as `<unk>`.
        known: the same without the unknown words.
        words: number of words.
        unknown: how many of them the model does not know.
    """

    value: float
    known: float
    words: int
    unknown: int


class NGramModel:
    """A back-off model: p(w | context) is the n-gram's own probability, or the back-off weight of the context times
    p(w | the context without its first word).

    Args:
        words: the vocabulary; the unigrams have these numbers. A missing `<unk>` is added.
        orders: tables of the 1-grams, 2-grams and so on.

    Raises:
        DataError: `<s>` or `</s>` is missing.
    """

    def __init__(self, words: Sequence[str], orders: Sequence[Order]) -> None:
        self.words = list(words)
        self.orders = list(orders)
        self.key_base = len(words) + 1  # room for an `<unk>` that the file lacks
        self._ids = {word: number for number, word in enumerate(words)}
        if START not in self._ids or END not in self._ids:
            raise DataError("A language model needs <s> and </s> among its words: estimate it from sentences again")
        self.lacks_unknown = UNKNOWN not in self._ids
        if self.lacks_unknown:
            self._ids[UNKNOWN] = len(words)
            unigrams = self.orders[0]
            self.words.append(UNKNOWN)
            log_p = [*unigrams.log_p, MISSING_UNKNOWN_LOG10 * LN_10]
            self.orders[0] = Order(unigrams.numbers, log_p, [*unigrams.backoff, 0.0])

    @property
    def order(self) -> int:
        """n of the longest n-grams."""
        return len(self.orders)

    def start(self) -> State:
        """The state after `<s>`."""
        return (self._ids[START],)[: self.order - 1]

    def knows(self, word: str) -> bool:
        """Whether the word is in the vocabulary."""
        return word in self._ids and word != UNKNOWN

    def score(self, state: State, word: str) -> tuple[float, State]:
        """ln p(word | state), the unknown word as `<unk>`, and the state after it."""
        number = self._ids.get(word, self._ids[UNKNOWN])
        ending = [number]
        for context, order in zip(state, self.orders[1:], strict=False):
            ending.append(order.numbers.get(context * self.key_base + number, -1) if context >= 0 else -1)
        weight = 0.0
        for n in range(len(ending), 1, -1):
            if ending[n - 1] >= 0:
                return weight + self.orders[n - 1].log_p[ending[n - 1]], tuple(ending[: self.order - 1])
            if state[n - 2] >= 0:
                weight += self.orders[n - 2].backoff[state[n - 2]]
        return weight + self.orders[0].log_p[number], tuple(ending[: self.order - 1])

    def end(self, state: State) -> float:
        """ln p(end of the sentence | state)."""
        return self.score(state, END)[0]

    def log_prob(self, sentence: str) -> float:
        """ln p of a sentence of words parted by spaces, with its end.

        Example:
            >>> from d2v.models.kneser_ney import estimate
            >>> model = estimate(["a b", "a c"], order=2)
            >>> model.log_prob("a b") > model.log_prob("b a")
            True
        """
        return sum(log_p for log_p, _ in self._read(sentence))

    def perplexity(self, sentences: Iterable[str]) -> Perplexity:
        """How well the model foresees sentences of words parted by spaces.

        Raises:
            DataError: no sentences.
        """
        scored = [pair for sentence in sentences for pair in self._read(sentence)]
        if not scored:
            raise DataError("A perplexity needs at least one sentence: give the split a transcript")
        known = [log_p for log_p, is_known in scored if is_known]
        return Perplexity(
            math.exp(-sum(log_p for log_p, _ in scored) / len(scored)),
            math.exp(-sum(known) / len(known)),
            len(scored),
            len(scored) - len(known),
        )

    def _read(self, sentence: str) -> Iterator[tuple[float, bool]]:
        """ln p of each word and of the end, and whether the model knows it."""
        state = self.start()
        for word in (*sentence.split(), END):
            log_p, state = self.score(state, word)
            yield log_p, self.knows(word)

    def save_arpa(self, path: Path) -> None:
        """Write an ARPA file; one whose name ends with .gz is compressed."""
        with _opened(path, "wt") as file:
            file.write("\\data\\\n")
            for n, order in enumerate(self.orders, 1):
                file.write(f"ngram {n}={len(order.log_p)}\n")
            spelled: list[str] = []
            for n, order in enumerate(self.orders, 1):
                spelled = self._spelled(order, spelled) if n > 1 else self.words
                file.write(f"\n\\{n}-grams:\n")
                for text, log_p, backoff in zip(spelled, order.log_p, order.backoff, strict=True):
                    end = f"\t{backoff / LN_10:.7g}" if n < self.order else ""
                    file.write(f"{max(log_p / LN_10, NEVER_LOG10):.7g}\t{text}{end}\n")
            file.write("\n\\end\\\n")

    def _spelled(self, order: Order, contexts: list[str]) -> list[str]:
        """The words of each n-gram, from those of the order below."""
        parted = (divmod(key, self.key_base) for key in order.numbers)
        return [f"{contexts[context]} {self.words[word]}" for context, word in parted]


def load_arpa(path: Path) -> NGramModel:
    """Read an ARPA file, compressed or not, such as SRILM's and KenLM's lmplz.

    Raises:
        DataError: the file is not there or is damaged; the message names the line.
    """
    try:
        with _opened(path, "rt") as file:
            return _Arpa(path, file).read()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"The language model {path} cannot be read ({error}): give the path of an ARPA file (.arpa or .arpa.gz)"
        ) from error


class _Arpa:
    """An ARPA file on its way to a model."""

    def __init__(self, path: Path, file: Iterable[str]) -> None:
        self.path, self.number = path, 0
        self.lines = self._numbered(file)
        self.words: dict[str, int] = {}
        self.orders: list[Order] = []

    def _numbered(self, file: Iterable[str]) -> Iterator[str]:
        for line in file:
            self.number += 1
            if kept := line.strip(" \t\n"):  # a no-break space is a part of a word, as KenLM reads it
                yield kept

    def read(self) -> NGramModel:
        """The model in the file."""
        for line in self.lines:
            if line == "\\data\\":
                break
        counts, line = self._counts()
        for n, count in enumerate(counts, 1):
            if line != f"\\{n}-grams:":
                raise self._damaged(f"\\{n}-grams: must stand here")
            line = self._section(n)
            if len(self.orders[-1].log_p) != count:
                raise self._damaged(f"there are {len(self.orders[-1].log_p)} {n}-grams, and {count} were announced")
        if line != "\\end\\":
            raise self._damaged("\\end\\ must stand here")
        return NGramModel(list(self.words), self.orders)

    def _counts(self) -> tuple[list[int], str]:
        counts: list[int] = []
        for line in self.lines:
            if not line.startswith("ngram "):
                return self._checked(counts), line
            try:
                counts.append(int(line.partition("=")[2]))
            except ValueError as error:
                raise self._damaged("a line such as `ngram 1=200` must stand here") from error
        raise self._damaged("it has no n-grams")

    def _checked(self, counts: list[int]) -> list[int]:
        if not counts:
            raise self._damaged("`ngram 1=...` must stand here")
        self.key_base = counts[0] + 1
        return counts

    def _section(self, n: int) -> str:
        """Read one order; the line after it."""
        order = Order({}, [], [])
        self.orders.append(order)
        for line in self.lines:
            if line.startswith("\\"):
                return line
            parts = [part for part in line.replace("\t", " ").split(" ") if part]
            try:
                log_p, words, backoff = float(parts[0]), parts[1 : n + 1], float((*parts, "0")[n + 1])
                key = self._key(words)
            except (ValueError, KeyError, IndexError) as error:
                raise self._damaged(f"no {n}-gram whose words and contexts stand above: {line!r}") from error
            if key in order.numbers or len(parts) > n + 2:
                wrong = "stands twice" if key in order.numbers else "has more words than its section's"
                raise self._damaged(f"this {n}-gram {wrong}: {line!r}")
            order.numbers[key] = len(order.log_p)
            order.log_p.append(max(log_p, MISSING_UNKNOWN_LOG10) * LN_10)
            order.backoff.append(backoff * LN_10)
        return ""

    def _key(self, words: list[str]) -> int:
        if len(self.orders) == 1:
            word = UNKNOWN if words[0] == "<UNK>" else words[0]
            return self.words.setdefault(word, len(self.words))
        numbers = [self.words[UNKNOWN if word == "<UNK>" else word] for word in words]
        found = numbers[0]
        for order, number in zip(self.orders[1:-1], numbers[1:-1], strict=True):
            found = order.numbers[found * self.key_base + number]
        return found * self.key_base + numbers[-1]

    def _damaged(self, what: str) -> DataError:
        return DataError(
            f"{self.path}, line {self.number}: {what}. The ARPA file is damaged or cut short: write it again"
        )


def _opened(path: Path, mode: str) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, mode, encoding="utf-8")  # type: ignore[return-value]
    return open(path, mode.rstrip("t"), encoding="utf-8")
