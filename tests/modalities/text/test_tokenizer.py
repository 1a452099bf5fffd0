"""Ids laid out as RoBERTa's, whatever files the tokenizer comes from."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from d2v.errors import DataError
from d2v.modalities.text import tokenizer as module
from d2v.modalities.text.tokenizer import (
    BOS,
    EOS,
    PAD,
    UNK,
    TextTokenizer,
    cut,
    encode_items,
    train_tokenizer,
)
from d2v.modalities.text.tokenizer_files import load_tokenizer

TEXTS = [
    "The cat sat on the mat.\nThe cat sat.",
    "  To be, or not to be: that's the question…\n\n",
    "naïve café 🙂 42",
] * 3
MERGES = [("l", "o"), ("lo", "w"), ("Ġ", "low"), ("e", "r")]
LETTERS = ["l", "o", "w", "e", "r", "Ġ", "!"]


@pytest.fixture(scope="module")
def trained() -> TextTokenizer:
    return train_tokenizer(TEXTS, 400)


def gpt2_vocabulary() -> dict[str, int]:
    """Letters, merges and the end mark, as in GPT-2's vocab.json."""
    return {
        token: number for number, token in enumerate([*LETTERS, *("".join(pair) for pair in MERGES), "<|endoftext|>"])
    }


def write_merges(path: Path) -> None:
    path.write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in MERGES))


def write_gpt2(folder: Path) -> Path:
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(gpt2_vocabulary()))
    write_merges(folder / "merges.txt")
    return folder


def write_fairseq(folder: Path, order: list[str]) -> Path:
    """`order`: tokens by frequency, the lines of dict.txt."""
    folder.mkdir()
    numbers = gpt2_vocabulary()
    (folder / "encoder.json").write_text(json.dumps(numbers))
    write_merges(folder / "vocab.bpe")
    lines = [f"{numbers.get(token, token)} {1000 - row}\n" for row, token in enumerate(order)]
    (folder / "dict.txt").write_text("".join(lines))
    return folder


def ids(tokenizer: TextTokenizer, text: str) -> list[int]:
    return tokenizer.encode_batch([text])[0].tolist()


# --------------------------------------------------------------------------------------------- trained


def test_special_tokens_are_where_roberta_has_them(trained: TextTokenizer) -> None:
    assert (BOS, PAD, EOS, UNK) == (0, 1, 2, 3)
    assert trained.pieces([0, 1, 2, 3, trained.mask_id]) == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert trained.mask_id == trained.vocab_size - 1
    assert 4 + 256 < trained.vocab_size <= 400


@pytest.mark.parametrize("text", [*TEXTS[:3], "", "\0 \x80", "</s> <mask> <s>", "日本語", " "])
def test_round_trip(trained: TextTokenizer, text: str) -> None:
    found = ids(trained, text)
    assert trained.decode(found) == text
    assert all(3 < number < trained.mask_id for number in found)


def test_training_is_deterministic_and_the_json_is_all_of_it(trained: TextTokenizer) -> None:
    assert train_tokenizer(iter(TEXTS), 400).to_json() == trained.to_json()
    for copy in (TextTokenizer.from_json(trained.to_json()), pickle.loads(pickle.dumps(trained))):
        assert copy.to_json() == trained.to_json()
        assert ids(copy, "</s> the cat") == ids(trained, "</s> the cat")
        assert EOS not in ids(copy, "</s>")


def test_pieces_are_readable(trained: TextTokenizer) -> None:
    assert "".join(trained.pieces(ids(trained, "The cat\nsat"))) == "The·cat↵sat"
    assert "".join(trained.pieces(ids(trained, "日"))) == "<e6><97><a5>"
    assert trained.pieces([10**6]) == ["?"]


def test_decoding_leaves_special_tokens_out(trained: TextTokenizer) -> None:
    cat, mat = ids(trained, "cat"), ids(trained, "mat")
    assert trained.decode([BOS, *cat, EOS, EOS, *mat, trained.mask_id, EOS, PAD, PAD]) == "cat\nmat"


@pytest.mark.parametrize("text", ["a b  c\n\n  d's? " * 40, "x" * 300, " " * 300, "no\tspaces" * 50 + "\n \n!"])
def test_cutting_a_text_does_not_change_its_tokens(
    trained: TextTokenizer, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ids(trained, text)
    monkeypatch.setattr(module, "PIECE_CHARACTERS", 37)
    monkeypatch.setattr(module, "PIECES_AT_ONCE", 3)
    assert "".join(cut(text)) == text
    assert max(map(len, cut(text))) <= 37
    if text.startswith("a b"):
        assert ids(trained, text) == whole
    assert trained.decode(ids(trained, text)) == text


def test_items_as_roberta_reads_them(trained: TextTokenizer) -> None:
    cat, mat = ids(trained, "the cat"), ids(trained, "a mat")
    single, pair = encode_items(trained, ["the cat"] * 2, [None, "a mat"], 64)
    assert single.tolist() == [BOS, *cat, EOS]
    assert pair.tolist() == [BOS, *cat, EOS, EOS, *mat, EOS]


def test_items_too_long_are_cut_the_longer_sentence_first(trained: TextTokenizer) -> None:
    long, short = "mat " * 30, "mat"
    for first, second in ((long, None), (long, short), (short, long), (long, long)):
        (item,) = encode_items(trained, [first], [second], 20)
        assert len(item) == 20
        assert item[-1] == EOS
        assert len(np.flatnonzero(item == EOS)) == (1 if second is None else 3)
        if short in (first, second):
            kept = trained.decode(item).split("\n")
            assert short in kept


# ---------------------------------------------------------------------------------------------- loaded


def test_gpt2_files_get_the_special_tokens_in_front(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_gpt2(tmp_path / "gpt2"))
    gpt2 = gpt2_vocabulary()
    assert ids(tokenizer, "lower low!") == [4 + gpt2[token] for token in ("low", "er", "Ġlow", "!")]
    assert tokenizer.vocab_size == 4 + len(gpt2) + 1
    assert tokenizer.pieces([4 + gpt2["<|endoftext|>"], tokenizer.mask_id]) == ["<|endoftext|>", "<mask>"]


def test_robertas_vocabulary_keeps_its_ids(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "roberta")
    order = ["<s>", "<pad>", "</s>", "<unk>", *gpt2_vocabulary(), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(order)}))
    tokenizer = load_tokenizer(folder)
    assert ids(tokenizer, "low!") == [order.index("low"), order.index("!")]
    assert tokenizer.mask_id == len(order) - 1


def test_fairseq_files_give_fairseqs_ids(tmp_path: Path) -> None:
    order = ["Ġlow", "!", "low", "er", *LETTERS[:6], "lo", "<|endoftext|>", "madeupword0000", "madeupword0001"]
    tokenizer = load_tokenizer(write_fairseq(tmp_path / "fairseq", order))
    assert ids(tokenizer, "lower low!") == [4 + order.index(token) for token in ("low", "er", "Ġlow", "!")]
    assert tokenizer.mask_id == 4 + len(order)
    assert tokenizer.vocab_size == 4 + len(order) + 1
    assert tokenizer.pieces([4 + order.index("madeupword0001")]) == ["madeupword0001"]
    assert tokenizer.decode(ids(tokenizer, "lower low!")) == "lower low!"


def test_tokens_that_fairseqs_dictionary_leaves_out_are_unknown(tmp_path: Path) -> None:
    order = ["low", "er", *LETTERS[:5]]
    tokenizer = load_tokenizer(write_fairseq(tmp_path / "fairseq", order))
    assert ids(tokenizer, "low!") == [4, UNK]
    assert tokenizer.vocab_size == 4 + len(order) + 1


def test_a_tokenizer_json_is_kept_or_given_special_tokens(tmp_path: Path, trained: TextTokenizer) -> None:
    (tmp_path / "tokenizer.json").write_text(trained.to_json())
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert load_tokenizer(path).to_json() == trained.to_json()

    content = json.loads(load_tokenizer(write_gpt2(tmp_path / "gpt2")).to_json())
    content["model"]["vocab"], content["added_tokens"] = gpt2_vocabulary(), []
    (tmp_path / "bare.json").write_text(json.dumps(content))
    assert ids(load_tokenizer(tmp_path / "bare.json"), "low") == [4 + gpt2_vocabulary()["low"]]


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds nothing"):
        load_tokenizer(tmp_path)
    write_merges(tmp_path / "merges.txt")
    with pytest.raises(DataError, match=r"lacks vocab\.json, beside its merges\.txt"):
        load_tokenizer(tmp_path)
    (write_fairseq(tmp_path / "fairseq", LETTERS) / "dict.txt").unlink()
    with pytest.raises(DataError, match=r"lacks dict\.txt"):
        load_tokenizer(tmp_path / "fairseq")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", "{}", "which its vocabulary does not hold"),
        ("merges.txt", "#version: 0.2\nabcd abcd\n", "which its vocabulary does not hold"),
        ("vocab.json", "[1]", "no JSON object of tokens"),
        ("vocab.json", '{"l": 0, "o": 5}', "do not count from 0"),
        ("merges.txt", "l o w\n", "two tokens"),
        ("tokenizer.json", "{}", "no tokenizer"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (write_gpt2(tmp_path / "gpt2") / name).write_text(content)
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path / "gpt2")


def test_special_tokens_elsewhere_are_refused(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "gpt2")
    vocabulary = {token: number for number, token in enumerate([*gpt2_vocabulary(), "<s>", "<pad>", "</s>", "<unk>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(DataError, match="laid out like RoBERTa's"):
        load_tokenizer(folder)


def test_a_dictionary_of_other_words_is_refused(tmp_path: Path) -> None:
    folder = write_fairseq(tmp_path / "fairseq", LETTERS)
    (folder / "dict.txt").write_text("the 100\nof 90\n")
    with pytest.raises(DataError, match="does not go with"):
        load_tokenizer(folder)


# ------------------------------------------------------------------------------- ids in any order


def reordered(trained, mask_id):
    """The library's JSON of the same tokenizer with `<mask>` at another id, and later tokens one further."""
    content = json.loads(trained.to_json())
    last = trained.mask_id

    def moved(number):
        return mask_id if number == last else number + 1 if number >= mask_id else number

    content["model"]["vocab"] = {token: moved(number) for token, number in content["model"]["vocab"].items()}
    for token in content["added_tokens"]:
        token["id"] = moved(token["id"])
    return content, moved


@pytest.mark.parametrize("mask_id", [4, 100])
@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json", "added_tokens.json"])
def test_mask_may_have_any_id(trained, tmp_path, mask_id, form):
    content, moved = reordered(trained, mask_id)
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    if form == "tokenizer.json":
        (tmp_path / form).write_text(json.dumps(content))
    else:
        added = {token["content"]: token["id"] for token in content["added_tokens"]}
        inside = vocabulary | added if form == "vocab.json" else {n: i for n, i in vocabulary.items() if n not in added}
        (tmp_path / "vocab.json").write_text(json.dumps(inside))
        (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges))
        if form == "added_tokens.json":
            (tmp_path / form).write_text(json.dumps(added))
    loaded = load_tokenizer(tmp_path)
    assert (loaded.mask_id, loaded.vocab_size) == (mask_id, trained.vocab_size)
    text = "not to be, my lord: é"
    expected = [moved(number) for number in trained.encode_batch([text])[0].tolist()]
    for copy in (loaded, TextTokenizer.from_json(loaded.to_json()), pickle.loads(pickle.dumps(loaded))):
        assert copy.encode_batch([text])[0].tolist() == expected
        assert copy.vocab_size == trained.vocab_size
        assert copy.decode(expected) == text


def test_a_tokenizer_that_an_earlier_version_misread_is_refused(trained):
    content, _ = reordered(trained, 4)
    content["model"]["vocab"]["<mask>"] = 4
    with pytest.raises(DataError, match=r"<mask> at the id 4 .* import the model again"):
        TextTokenizer.from_json(json.dumps(content))


def test_a_space_before_the_first_word_is_taken_from_the_folder(trained, tmp_path):
    (tmp_path / "tokenizer.json").write_text(trained.to_json())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": True}))
    with_space = load_tokenizer(tmp_path).encode_batch(["to be"])[0].tolist()
    assert with_space == trained.encode_batch([" to be"])[0].tolist() != trained.encode_batch(["to be"])[0].tolist()


def test_added_tokens_that_share_an_id_are_refused(trained, tmp_path):
    content = json.loads(trained.to_json())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(content["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(" ".join(pair) for pair in content["merges"]))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<mask>": 10}))
    with pytest.raises(DataError, match="share ids"):
        load_tokenizer(tmp_path)
