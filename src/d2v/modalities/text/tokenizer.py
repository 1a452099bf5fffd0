"""Byte-level BPE tokens with RoBERTa's special ones, and their training; `tokenizer_files` reads others' files.

Ids are laid out as fairseq does it: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, then the vocabulary, `<mask>` last. A
tokenizer from elsewhere may have `<mask>` at another id.
Special tokens are never made from text: a document that holds the characters `</s>` holds just those characters.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from d2v.errors import DataError

# Callers bring threads of their own: the library's would warn in every data worker that is forked later.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BOS, PAD, EOS, UNK = range(4)
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
OWN = "d2v"
"""Key of what `TextTokenizer.to_json` adds to the library's JSON."""
PIECE_CHARACTERS, PIECES_AT_ONCE = 20_000, 32
"""Texts are cut before they are encoded, for the library needs some 200 bytes per character."""
SIGNS = str.maketrans({" ": "·", "\n": "↵", "\t": "→", "\r": "␍"})


class TextTokenizer:
    """Text to ids and back.

    Args:
        tokenizer: with our special tokens at their ids.
        vocab_size: ids from here on become `<unk>`, such as those of tokens that fairseq's dict.txt leaves out; None:
            those above `<mask>`.

    Raises:
        DataError: the special tokens are missing or elsewhere.

    Attributes:
        mask_id: of `<mask>`.
        vocab_size: ids are below this.

    Example:
        >>> tokenizer = train_tokenizer(["to be or not to be"], vocab_size=300)
        >>> tokenizer.decode(tokenizer.encode_batch(["not to be"])[0])
        'not to be'
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int | None = None) -> None:
        found = {name: tokenizer.token_to_id(name) for name in (*SPECIALS, MASK)}
        mask_id = found[MASK]
        if [found[name] for name in SPECIALS] != [BOS, PAD, EOS, UNK] or mask_id is None:
            wanted = ", ".join(f"{name} {number}" for number, name in enumerate(SPECIALS))
            raise DataError(
                f"The tokenizer has the special tokens {found}, but {wanted} and a {MASK} are needed: give one laid "
                "out like RoBERTa's, the vocab.json and merges.txt of GPT-2, or set text.prepare.tokenizer=train"
            )
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True  # "</s>" in a text is four characters; this is not saved with it
        self._tokenizer = tokenizer
        self.mask_id = mask_id
        self.vocab_size = mask_id + 1 if vocab_size is None else vocab_size

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids (int32) of each text, without special tokens."""
        pieces = [list(cut(text)) for text in texts]
        flat = [one for some in pieces for one in some]
        ids: list[np.ndarray] = []
        for start in range(0, len(flat), PIECES_AT_ONCE):
            encoded = self._tokenizer.encode_batch_fast(flat[start : start + PIECES_AT_ONCE], add_special_tokens=False)
            ids += [np.array(one.ids, dtype=np.int32) for one in encoded]
        for one in ids:
            one[one >= self.vocab_size] = UNK
        ends = np.cumsum([0] + [len(some) for some in pieces]).tolist()
        return [np.concatenate([np.zeros(0, np.int32), *ids[start:end]]) for start, end in pairwise(ends)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, for people: without special tokens, and with a line end for each `</s>` inside."""
        parts: list[list[int]] = [[]]
        for number in ids:
            if number == EOS:
                parts.append([])
            elif number not in (BOS, PAD, self.mask_id):
                parts[-1].append(int(number))
        return "\n".join(self._tokenizer.decode(part) for part in parts if part)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Each token as something to read: spaces as "·", line ends as "↵", parts of a character as hex bytes."""
        return [self._piece(int(number)) for number in ids]

    def _piece(self, number: int) -> str:
        token = self._tokenizer.id_to_token(number)
        if token is None or number < len(SPECIALS) or number == self.mask_id:
            return token or "?"
        try:
            raw = bytes(_BYTES[sign] for sign in token)
        except KeyError:  # a word of another kind of tokenizer
            return token
        try:
            return raw.decode().translate(SIGNS)
        except UnicodeDecodeError:
            return f"<{raw.hex(' ')}>"

    def word_starts(self) -> np.ndarray:
        """(ids,) bool, whether a token begins a word: with white space, as byte-level BPE has it before the word."""
        blank = tuple(sign for sign, byte in _BYTES.items() if chr(byte).isspace() and byte < 128)
        tokens = [self._tokenizer.id_to_token(number) for number in range(self.vocab_size)]
        return np.array([token is not None and token.startswith(blank) for token in tokens], dtype=bool)

    def to_json(self) -> str:
        """All of it as the `tokenizers` library's JSON, with `vocab_size` under a key of ours where `<mask>` is not the
        last id."""
        text = str(self._tokenizer.to_str())
        if self.vocab_size == self.mask_id + 1 == all_ids(self._tokenizer):
            return text
        return json.dumps({**json.loads(text), OWN: {"vocab_size": self.vocab_size}}, ensure_ascii=False)

    def cut_to(self, vocab_size: int) -> TextTokenizer:
        """The same tokenizer with ids from `vocab_size` on as `<unk>`."""
        return TextTokenizer(self._tokenizer, vocab_size)

    def other_arrangement(self) -> str:
        """How the file itself puts special tokens around a text, or around a pair, where that is not `<s> A </s>` and
        `<s> A </s> </s> B </s>`; empty if it is, or if the file says nothing of it."""
        own = json.loads(self._tokenizer.to_str()).get("post_processor")
        if own is None or own.get("type") == "ByteLevel":
            return ""
        (ids,) = self.encode_batch(["a"])
        wanted = [[BOS, *ids, EOS], [BOS, *ids, EOS, EOS, *ids, EOS]]
        given = [self._tokenizer.encode("a"), self._tokenizer.encode("a", "a")]
        return next((" ".join(one.tokens) for one, ids in zip(given, wanted, strict=True) if one.ids != ids), "")

    def __reduce__(self) -> tuple[Any, ...]:
        return TextTokenizer.from_json, (self.to_json(),)

    @classmethod
    def from_json(cls, text: str) -> TextTokenizer:
        """The tokenizer that `to_json` gave. Raises DataError for anything else, and for one of an earlier version that
        took most tokens for `<unk>`."""
        tokenizer, vocab_size = parsed(text, "the tokenizer's JSON"), told_size(text)
        made = cls(tokenizer, vocab_size)
        if vocab_size is None and made.vocab_size < tokenizer.get_vocab_size() / 2:
            raise DataError(
                f"The tokenizer has {MASK} at the id {made.mask_id} of {tokenizer.get_vocab_size()}, and an "
                "earlier version wrote it, which took all ids above for <unk>: import the model again"
            )
        return made


def encode_items(
    tokenizer: TextTokenizer, firsts: Sequence[str], seconds: Sequence[str | None], max_tokens: int
) -> list[np.ndarray]:
    """Sentences as `<s> A </s>` and pairs as `<s> A </s> </s> B </s>`, as RoBERTa reads them.

    What is too long for `max_tokens` loses its end; of a pair, the longer one loses first.

    Returns:
        int32 ids of each, at most `max_tokens`.
    """
    return [laid_out(*one, max_tokens) for one in encode_pairs(tokenizer, firsts, seconds)]


def encode_pairs(
    tokenizer: TextTokenizer, firsts: Sequence[str], seconds: Sequence[str | None]
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Ids of the whole of each text, and of the second of a pair, without special tokens."""
    heads = tokenizer.encode_batch(firsts)
    tails = tokenizer.encode_batch([second or "" for second in seconds])
    return [(head, None if second is None else tail) for head, tail, second in zip(heads, tails, seconds, strict=True)]


def laid_out(head: np.ndarray, tail: np.ndarray | None, max_tokens: int) -> np.ndarray:
    """Ids of a text, or of a pair, with special tokens, cut to `max_tokens`."""
    if tail is None:
        return np.array([BOS, *head[: max_tokens - 2], EOS], dtype=np.int32)
    room = max(max_tokens - 4, 0)
    first = head[: max(room - len(tail), (room + 1) // 2)]
    return np.array([BOS, *first, EOS, EOS, *tail[: room - len(first)], EOS], dtype=np.int32)


def cut(text: str) -> Iterator[str]:
    """Pieces of a text that together give the tokens of the whole.

    A token never goes on over white space, so a cut before it changes nothing; only where there is none in
    PIECE_CHARACTERS characters, one token may become two.
    """
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        end = start + PIECE_CHARACTERS
        while end > start and not (text[end] in " \n" and not text[end - 1].isspace()):
            end -= 1
        end = end if end > start else start + PIECE_CHARACTERS
        yield text[start:end]
        start = end
    yield text[start:]


# ------------------------------------------------------------------------------------------- training


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> TextTokenizer:
    """Byte-level BPE (Sennrich, Haddow, Birch 2016; Radford et al. 2019) of at most `vocab_size` ids with all special
    ones; the same texts give the same tokenizer."""
    tokenizer = byte_level(BPE())
    trainer = BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in cut(text)), trainer)
    tokenizer.add_special_tokens([special(MASK)])
    return TextTokenizer(tokenizer)


def byte_level(model: BPE, prefix_space: bool = False) -> Tokenizer:
    """A model behind GPT-2's cutting into words and bytes, with or without a space before the first word."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = ByteLevelDecoder()
    return tokenizer


def special(name: str) -> AddedToken:
    """A token that is never made from text."""
    return AddedToken(name, special=True, normalized=False)


def parsed(text: str, name: str) -> Tokenizer:
    """The tokenizer of the library's JSON. Raises DataError, which calls it `name`, for anything else."""
    try:
        if f'"{OWN}"' in text:  # the library refuses keys that it does not know
            text = json.dumps({name: value for name, value in json.loads(text).items() if name != OWN})
        return Tokenizer.from_str(text)
    except Exception as error:  # what the library's Rust code raises is Exception itself, of no class of its own
        raise DataError(f"{name} is no tokenizer of the tokenizers library ({error}): write it again") from error


def told_size(text: str) -> int | None:
    """The number of ids that `to_json` wrote beside the library's part; None if it is not told."""
    if f'"{OWN}"' not in text:
        return None
    own = json.loads(text).get(OWN)
    return int(own["vocab_size"]) if isinstance(own, dict) else None


def all_ids(tokenizer: Tokenizer) -> int:
    """One more than the largest id."""
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)) + 1


def _byte_signs() -> dict[str, int]:
    """The printable sign that byte-level BPE writes for each byte: itself, or the next one free from U+0100 on."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTES: dict[str, Any] = _byte_signs()
