"""The probes of text beside its labels: what can be measured of any text without a label.

Whole sentences, paragraphs and windows of tokens are taken back out of the prepared blocks; those that test are of the
corpus's test part, and no test sentence stands in the training text.

Shape legend: B blocks, T tokens, n items, N chosen tokens.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice

import numpy as np
import torch

from d2v.data.batch import Inputs
from d2v.data.store import ShardReader
from d2v.modalities.probes import (
    Choice,
    ChosenTokens,
    CountModel,
    ItemClasses,
    MaskedTokens,
    MinimalPairs,
    Probe,
    TokenClasses,
)
from d2v.modalities.text import acceptability
from d2v.modalities.text.config import TextTrainConfig
from d2v.modalities.text.counts import NAMES, Between, best_choice, count_models
from d2v.modalities.text.data import TextData
from d2v.modalities.text.minimal_pairs import RULES, minimal_pairs
from d2v.modalities.text.raw_inputs import pad
from d2v.modalities.text.tokenizer import BOS, EOS, PAD, encode_items
from d2v.models.ngram import NGramModel

COUNTED_TOKENS = 2_000_000  # that counts are taken of at most; the model of order 3 then takes 1 GB
READ_BLOCKS = 50_000
MASK_EVERY = 8  # tokens of which one is masked
TRAIN_TOKENS, TEST_TOKENS = 80_000, 4_000  # masked words
PAIRS_OF_A_RULE, PAIR_TOKENS = 100, 24
PUNCTUATION = ("", ",", ".")
TOKENS_OF_A_CLASS = 1_500  # for training; half as many for the test
SOURCES, FEWEST_PARAGRAPHS, MOST_PARAGRAPHS = 20, 8, 40


def further_probes(data: TextData, recipe: TextTrainConfig, items: int) -> list[Probe]:
    """Forced choice, masked words with minimal pairs, punctuation, and paragraphs' sources, those that the text has
    enough for.

    Args:
        data: the prepared folder.
        recipe: of the encoder, which bounds the length of items.
        items: sentences at most of the forced choice.
    """
    text = _Text(data, recipe)
    probes = [text.forced_choice(range(items)), text.masked_words(), text.punctuation(), text.sources()]
    return [probe for probe in probes if probe is not None]


def choice(data: TextData, recipe: TextTrainConfig, pairs: range, counted: bool) -> Choice | None:
    """The forced choice alone; None where the corpus has labels of its own, or too few sentences.

    Args:
        data: the prepared folder.
        recipe: of the encoder, which bounds the length of items.
        pairs: which sentences; the first `items` are those of `further_probes`.
        counted: with the better of the count models.
    """
    if data.about.get("probe") == "labels" or not pairs:
        return None
    return _Text(data, recipe).forced_choice(pairs, counted)


class _Text:
    """The text of a prepared folder on its way to probes."""

    def __init__(self, data: TextData, recipe: TextTrainConfig) -> None:
        self.data, self.tokenizer = data, data.tokenizer
        self.longest = min(recipe.encoder.max_tokens, int(data.about["probe_max_tokens"]))
        self.train = self._documents(data.train)
        self.test = self._documents(data.test)
        self.sentences = self._sentences()

    def _documents(self, shards: ShardReader) -> list[np.ndarray]:
        """Ids of whole documents, or of lines where blocks are packed by documents; without special tokens."""
        rows = np.arange(min(len(shards), READ_BLOCKS))
        if not len(rows):
            return []
        ids = np.ascontiguousarray(shards.fixed("tokens", rows)).view(self.data.about["token_type"]).reshape(-1)
        stream = ids[(ids != PAD) & (ids != BOS)].astype(np.int64)
        parts = np.split(stream, np.flatnonzero(stream == EOS) + 1)
        return [part[part != EOS] for part in parts if len(part) > 1]

    @cached_property
    def models(self) -> dict[str, NGramModel]:
        """Counts of the training text by their names."""
        used, some = 0, []
        for ids in self.train:
            if used >= COUNTED_TOKENS:
                break
            some.append(ids[: COUNTED_TOKENS - used])
            used += len(ids)
        return count_models(some) if some else {}

    def _sentences(self) -> list[str]:
        """Sentences of the test part, in an order by their hash, none of which stands in the training text."""
        documents = (self.tokenizer.decode(ids) for ids in self.test)
        drawn = acceptability.draw_sentences(documents, 4000, seed=0)
        known = " ".join(" ".join(self.tokenizer.decode(ids).split()) for ids in self.train)
        return [sentence for sentence in drawn if sentence not in known]

    def _encoded(self, sentences: Sequence[str], longest: int) -> list[np.ndarray]:
        """`<s> sentence </s>`; what is too long is one token longer than that, for the caller to leave out."""
        return encode_items(self.tokenizer, sentences, [None] * len(sentences), longest + 1)

    # ------------------------------------------------------------------------------------------- pairs

    def forced_choice(self, pairs: range, counted: bool = True) -> Choice | None:
        """Sentences as they were written beside the same with words exchanged."""
        wholes, spoiled = self.sentences, [acceptability.exchanged(one, 0) for one in self.sentences]
        both = zip(self._encoded(wholes, self.longest), self._encoded(spoiled, self.longest), strict=True)
        fitting = [pair for pair in both if len(pair[0]) == len(pair[1]) <= self.longest]
        chosen = fitting[pairs.start : pairs.stop]
        if not chosen:
            return None
        a, b = ([pair[side] for pair in chosen] for side in (0, 1))
        return Choice("forced_choice", "forced choice", pad(a), pad(b), self._best(a, b) if counted else None)

    def _best(self, right: Sequence[np.ndarray], wrong: Sequence[np.ndarray]) -> CountModel:
        """The better of the two orders on these very pairs, which favours counts a little."""
        inner = [[ids[1:-1] for ids in side] for side in (right, wrong)]
        chosen = best_choice(self.models, *inner)
        best = int(chosen.mean(axis=1).argmax())
        return CountModel([*self.models][best], chosen[best])

    def minimal_pairs(self) -> Iterator[MinimalPairs]:
        """Pairs of short sentences by each rule that has some."""
        for name in RULES:
            pairs = minimal_pairs(self.sentences, name, len(self.sentences))
            sides = [self._encoded([pair[side] for pair in pairs], PAIR_TOKENS) for side in (0, 1)]
            both = [two for two in zip(*sides, strict=True) if max(map(len, two)) <= min(PAIR_TOKENS, self.longest)]
            if not both:
                continue
            a, b = ([pair[side] for pair in both[:PAIRS_OF_A_RULE]] for side in (0, 1))
            yield MinimalPairs(name, pad(a), pad(b), (self._scored(a), self._scored(b)), self._best(a, b))

    def _scored(self, items: Sequence[np.ndarray]) -> list[tuple[int, int, list[int]]]:
        """Every token but the special ones, masked with the later tokens of its word."""
        scored = []
        for row, ids in enumerate(items):
            begins = [piece.startswith("·") or not piece.isalnum() for piece in self.tokenizer.pieces(ids)]
            for at in range(1, len(ids) - 1):
                end = next((t for t in range(at + 1, len(ids) - 1) if begins[t]), len(ids) - 1)
                scored.append((row, at, list(range(at, end))))
        return scored

    # ------------------------------------------------------------------------------------ masked words

    def masked_words(self) -> MaskedTokens | None:
        """One word in eight of windows of the text."""
        train, test = (self._windows(documents) for documents in (self.train, self.test))
        per_item = max(self.longest // MASK_EVERY, 1)
        train, test = train[: TRAIN_TOKENS // per_item], test[: TEST_TOKENS // per_item]
        if len(train) < 8 or not len(test):
            return None
        size = int(self.data.about["vocab_size"])
        chosen = _mask(test)
        between = Between(self.models[NAMES[2]], size)
        ids = chosen.inputs.values.numpy()
        places = zip(chosen.row_N.tolist(), chosen.at_N.tolist(), chosen.labels_N.tolist(), strict=True)
        right, nats = [], []
        for row, at, label in places:
            ln_W = between.ln_p(ids[row, at - 1], ids[row, at + 1])
            right.append(int(ln_W.argmax()) == label)
            nats.append(-ln_W[label])
        counts = CountModel(NAMES[2], np.array(right), np.array(nats))
        pairs = tuple(self.minimal_pairs())
        return MaskedTokens("masked_word", "masked word", _mask(train), chosen, size, counts, pairs)

    def _windows(self, documents: Sequence[np.ndarray]) -> np.ndarray:
        """(n, T) `<s>` and T - 1 tokens that follow each other in a document, in an order drawn once."""
        room = self.longest - 1
        cut = [ids[: len(ids) // room * room].reshape(-1, room) for ids in documents if len(ids) >= room]
        if not cut:
            return np.zeros((0, self.longest), np.int64)
        windows = np.concatenate(cut)
        windows = windows[np.random.Generator(np.random.Philox(key=3)).permutation(len(windows))]
        return np.concatenate([np.full((len(windows), 1), BOS), windows], axis=1)

    # ------------------------------------------------------------------------------------- punctuation

    def punctuation(self) -> TokenClasses | None:
        """Whether a comma, a full stop or nothing stood behind a word of text without either and in lower case."""
        train = self._stripped(self.train, TOKENS_OF_A_CLASS)
        test = self._stripped(self.test, TOKENS_OF_A_CLASS // 2)
        if train is None or test is None:
            return None
        (train_tokens, train_words), (test_tokens, test_words) = train, test
        guess = _by_words(train_words, train_tokens.labels_N.tolist(), test_words)
        right = np.array(guess) == test_tokens.labels_N.numpy()
        counts = CountModel("counts of both words", right)
        return TokenClasses("punctuation", "punctuation", train_tokens, test_tokens, counts)

    def _stripped(
        self, documents: Sequence[np.ndarray], of_each: int
    ) -> tuple[ChosenTokens, list[tuple[str, str]]] | None:
        """Windows of bare words with tokens of all classes, as many of each, and the words on either side of them."""
        words_of_a_window = self.longest // 3
        found: dict[int, list[tuple[int, int, tuple[str, str]]]] = defaultdict(list)
        items: list[np.ndarray] = []
        for ids in documents:
            for bare, classes in _windows_of_words(self.tokenizer.decode(ids), words_of_a_window):
                pieces = self.tokenizer.encode_batch([f" {word}" for word in bare])
                ends = np.cumsum([len(piece) for piece in pieces])
                if ends[-1] + 2 > self.longest:
                    continue
                for number in range(len(bare) - 1):
                    place = (len(items), int(ends[number]), (bare[number], bare[number + 1]))
                    found[classes[number]].append(place)
                items.append(np.concatenate([[BOS], *pieces, [EOS]]).astype(np.int32))
            if len(found) == len(PUNCTUATION) and min(map(len, found.values())) >= 2 * of_each:
                break
        if len(found) < len(PUNCTUATION) or min(map(len, found.values())) < 20:
            return None
        count = min(of_each, *map(len, found.values()))
        random = np.random.Generator(np.random.Philox(key=4))
        chosen = [
            (*found[label][number], label)
            for label in range(len(PUNCTUATION))
            for number in random.permutation(len(found[label]))[:count]
        ]
        row_N, at_N, labels_N = (torch.tensor([one[k] for one in chosen]) for k in (0, 1, 3))
        used, row_N = row_N.unique(return_inverse=True)
        inputs = pad([items[row] for row in used.tolist()])
        return ChosenTokens(inputs, row_N, at_N, labels_N), [one[2] for one in chosen]

    # ----------------------------------------------------------------------------------------- sources

    def sources(self) -> ItemClasses | None:
        """Which document of the test part a paragraph is from; half of its paragraphs are to learn from."""
        if self.data.about.get("packing") != "contiguous":
            return None  # lines do not say where documents end
        paragraphs = [_paragraphs(self.tokenizer.decode(ids)) for ids in self.test]
        long = sorted((some for some in paragraphs if len(some) >= FEWEST_PARAGRAPHS), key=len, reverse=True)[:SOURCES]
        if len(long) < 2:
            return None
        parts: dict[int, tuple[list[str], list[int]]] = {0: ([], []), 1: ([], [])}
        for label, some in enumerate(long):
            for number, paragraph in enumerate(some[:MOST_PARAGRAPHS]):
                texts, labels = parts[number % 2]
                texts.append(paragraph)
                labels.append(label)
        (train, train_labels), (test, test_labels) = parts[0], parts[1]
        learned, asked = (
            pad(encode_items(self.tokenizer, texts, [None] * len(texts), self.longest)) for texts in (train, test)
        )
        return ItemClasses("source", "source", learned, torch.tensor(train_labels), asked, torch.tensor(test_labels))


def _mask(windows: np.ndarray) -> ChosenTokens:
    """One token in eight of each window, the same places in all, with tokens on either side."""
    places = np.arange(MASK_EVERY // 2, windows.shape[1] - 1, MASK_EVERY)
    row_N, at_N = np.repeat(np.arange(len(windows)), len(places)), np.tile(places, len(windows))
    labels_N = windows[row_N, at_N]
    inputs = Inputs(torch.from_numpy(windows))
    return ChosenTokens(inputs, torch.from_numpy(row_N), torch.from_numpy(at_N), torch.from_numpy(labels_N))


def _windows_of_words(text: str, count: int) -> Iterator[tuple[list[str], list[int]]]:
    """So many words in a row of plain paragraphs, bare and in lower case, and the class of what stood behind each."""
    for paragraph in acceptability.plain_paragraphs(text):
        words = paragraph.split()
        while len(words) >= count:
            some, words = words[:count], words[count:]
            classes = [1 if word.endswith((",", ";")) else 2 if word.endswith((".", "?", "!")) else 0 for word in some]
            bare = [re.sub(r"^\W+|\W+$", "", word).lower() for word in some]
            if all(bare):
                yield bare, classes


def _paragraphs(text: str) -> list[str]:
    plain = acceptability.plain_paragraphs(text)
    return list(islice(dict.fromkeys(one for one in plain if len(one) >= 80), MOST_PARAGRAPHS))


def _by_words(words: Sequence[tuple[str, str]], labels: Sequence[int], asked: Sequence[tuple[str, str]]) -> list[int]:
    """The class that counts of both words name: the product of their shares, each class as often as the others."""
    tables: tuple[dict[str, Counter[int]], ...] = (defaultdict(Counter), defaultdict(Counter))
    for pair, label in zip(words, labels, strict=True):
        for side in (0, 1):
            tables[side][pair[side]][label] += 1
    return [_best_class(tables, pair) for pair in asked]


def _best_class(tables: tuple[dict[str, Counter[int]], ...], pair: tuple[str, str]) -> int:
    def score(label: int) -> float:
        chances = [
            (tables[side][word][label] + 1) / (sum(tables[side][word].values()) + len(PUNCTUATION))
            for side, word in enumerate(pair)
        ]
        return chances[0] * chances[1]

    return max(range(len(PUNCTUATION)), key=score)
