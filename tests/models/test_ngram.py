"""N-gram models against sums, hand-computed values, and KenLM's own figures."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import math
from pathlib import Path

import pytest

from d2v.errors import ConfigError, DataError
from d2v.models.kneser_ney import estimate
from d2v.models.ngram import NGramModel, load_arpa

KENLM_ARPA = """
# a header that readers pass over

\\data\\
ngram 1=6
ngram 2=4
ngram 3=1

\\1-grams:
-1.5\t<unk>\t0
0\t<s>\t-0.3
-1.2\t</s>\t0
-0.5\tlooking\t-0.4
-0.7\ton\t-0.2
-0.9\ta\t-0.1

\\2-grams:
-0.3\t<s> looking\t-0.6
-0.2\tlooking on\t-0.05
-0.4\ton a
-0.6\ta </s>\t0

\\3-grams:
-0.1\t<s> looking on

\\end\\
"""


def zen() -> list[str]:
    """The Zen of Python in lower case without punctuation, a sentence a line: 143 words, 88 different ones with <unk>,
    <s> and </s>."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    text = codecs.decode(this.s, "rot13").lower()
    for mark in (".", ",", "!", "--"):
        text = text.replace(mark, " ")
    return [line.strip() for line in text.split("\n") if line.strip()]


def contexts(model: NGramModel, sentences: list[str]) -> list[tuple[int, ...]]:
    """All states that reading the sentences goes through."""
    states = []
    for sentence in sentences:
        states.append(model.start())
        for word in sentence.split():
            states.append(model.score(states[-1], word)[1])
    return states


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("min_count", [1, 2])
def test_probabilities_sum_to_one_after_every_context(order: int, min_count: int) -> None:
    model = estimate(zen(), order, min_count)
    foreseen = [word for word in model.words if word != "<s>"]
    unseen = ["better ugly never", "nothing zen nothing"]
    for state in set(contexts(model, zen() + unseen)):
        assert sum(math.exp(model.score(state, word)[0]) for word in foreseen) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("order", "all_words", "known_words"),
    [
        (1, 31.55285705846141, 26.47457924405348),
        (2, 12.832481327711731, 9.73711840452115),
        (3, 9.656394848790613, 6.594405025082552),
    ],
)
def test_estimates_equal_lmplz(order: int, all_words: float, known_words: float) -> None:
    """Perplexities under the ARPA files that KenLM's lmplz (kenlm 0.3.0, -o ORDER --discount_fallback) writes of the
    same text. Orders 1 and 2 have discounts of their own, order 3 falls back."""
    found = estimate(zen(), order).perplexity(["explicit is better than nothing", "now is better"])
    assert (found.words, found.unknown) == (10, 1)
    assert found.value == pytest.approx(all_words, rel=1e-6)
    assert found.known == pytest.approx(known_words, rel=1e-6)


def test_n_grams_equal_lmplz(tmp_path: Path) -> None:
    estimate(zen(), 3).save_arpa(tmp_path / "zen.arpa")
    lines = (tmp_path / "zen.arpa").read_text().splitlines()
    assert lines[1:4] == ["ngram 1=88", "ngram 2=142", "ngram 3=134"]
    written = {
        words[1]: [float(w) for w in (words[0], *words[2:])]
        for words in (x.split("\t") for x in lines[6:-2])
        if len(words) > 1
    }
    expected = {
        "<unk>": [-2.149716, 0.0],
        "is": [-1.306822, -0.23408322],
        "better": [-1.8692446, -0.18987952],
        "complex": [-1.8692446, -0.024823597],
        "better than": [-0.44373584, -0.30103],
        "<s> if the": [-0.26940015],
        "is better than": [-0.06406455],
        "never is often": [-0.29636663],
    }
    for words, figures in expected.items():
        assert written[words] == pytest.approx(figures, abs=2e-6)


def test_estimates_equal_sums_by_hand() -> None:
    """Three sentences "a b", "a c", "b": too small for discounts, so D = 0.5, 1, 1.5.

    Bigrams <s> a (2), <s> b (1), a b, a c, b </s> (2), c </s>. Adjusted counts of the unigrams: a 1 (after <s>),
    b 2 (after <s> and a), c 1, </s> 2; sum 6, left over 0.5 + 1 + 0.5 + 1 = 3, shared by a, b, c, </s> and <unk>.
    """
    model = estimate(["a b", "a c", "b"], order=2)
    unigram = {
        "a": 0.5 / 6 + 0.5 / 5,
        "b": 1 / 6 + 0.5 / 5,
        "c": 0.5 / 6 + 0.5 / 5,
        "</s>": 1 / 6 + 0.5 / 5,
        "?": 0.5 / 5,
    }
    for word, p in unigram.items():
        assert math.exp(model.score((), word)[0]) == pytest.approx(p)
    # after <s>: (2 - 1 + 0.5 * ...)/3; left over (1 + 0.5) / 3 = 0.5
    start = model.start()
    assert math.exp(model.score(start, "a")[0]) == pytest.approx(1 / 3 + 0.5 * unigram["a"])
    assert math.exp(model.score(start, "b")[0]) == pytest.approx(0.5 / 3 + 0.5 * unigram["b"])
    assert math.exp(model.score(start, "c")[0]) == pytest.approx(0.5 * unigram["c"])
    # after b: only </s>, twice; (2 - 1) / 2, left over 1 / 2
    assert math.exp(model.end(model.score(start, "b")[1])) == pytest.approx(0.5 + 0.5 * unigram["</s>"])
    assert model.log_prob("b") == pytest.approx(
        math.log((0.5 / 3 + 0.5 * unigram["b"]) * (0.5 + 0.5 * unigram["</s>"]))
    )


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_arpa_files_give_the_model_back(tmp_path: Path, name: str) -> None:
    model = estimate(zen(), 3)
    model.save_arpa(tmp_path / name)
    again = load_arpa(tmp_path / name)
    assert again.words == model.words
    for sentence in [*zen(), "something unknown is better", ""]:
        assert again.log_prob(sentence) == pytest.approx(model.log_prob(sentence), abs=1e-5)
    again.save_arpa(tmp_path / "twice.arpa")
    opened = gzip.open if name.endswith("gz") else open
    with opened(tmp_path / name, "rb") as first:
        assert first.read() == (tmp_path / "twice.arpa").read_bytes()


def test_a_hand_made_arpa_file_backs_off(tmp_path: Path) -> None:
    path = tmp_path / "hand.arpa"
    path.write_text(KENLM_ARPA)
    model = load_arpa(path)
    # <s> looking, <s> looking on, backed off: looking on -> on a, (backed off on a:) a </s>
    by_hand = -0.3 - 0.1 + (-0.05 - 0.4) + (0.0 - 0.6)
    assert model.log_prob("looking on a") / math.log(10) == pytest.approx(by_hand)
    # on: <s> backs off; foo: on backs off to <unk>; </s> after <unk>
    assert model.log_prob("on foo") / math.log(10) == pytest.approx((-0.3 - 0.7) + (-0.2 - 1.5) + (0.0 - 1.2))
    assert not model.knows("foo")
    assert model.knows("on")


def test_a_file_without_unknown_word_makes_it_all_but_impossible(tmp_path: Path) -> None:
    path = tmp_path / "closed.arpa"
    path.write_text(KENLM_ARPA.replace("ngram 1=6", "ngram 1=5").replace("-1.5\t<unk>\t0\n", ""))
    model = load_arpa(path)
    assert model.score(model.start(), "foo")[0] / math.log(10) == pytest.approx(-100.3)
    assert model.log_prob("looking on a") / math.log(10) == pytest.approx(-1.45)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ngram 2=4", "ngram 2=5", "4 2-grams, and 5 were announced"),
        ("\\2-grams:", "\\3-grams:", "2-grams: must stand here"),
        ("looking on\t-0.05", "watching on\t-0.05", "no 2-gram whose words"),
        ("-0.1\t<s> looking on", "-0.1\t<s> on on", "no 3-gram whose words and contexts"),
        ("\\end\\\n", "", "end. must stand here"),
        ("ngram 1=6", "ngram 1=six", "ngram 1=200"),
        ("\\data\\", "data", "no n-grams"),
        ("-0.9\ta\t-0.1", "-0.9", "no 1-gram"),
    ],
)
def test_damaged_arpa_files_are_named_by_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(KENLM_ARPA.replace(old, new))
    with pytest.raises(DataError, match=said) as caught:
        load_arpa(path)
    assert f"{path}, line " in str(caught.value)


def test_what_cannot_be_estimated_or_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 to 5"):
        estimate(["a"], order=6)
    with pytest.raises(DataError, match="needs text"):
        estimate(["", "  "], order=2)
    with pytest.raises(DataError, match="cannot be read"):
        load_arpa(tmp_path / "none.arpa")
    (tmp_path / "plain.arpa.gz").write_text(KENLM_ARPA)
    with pytest.raises(DataError, match="cannot be read"):
        load_arpa(tmp_path / "plain.arpa.gz")


def test_rare_words_are_read_as_unknown() -> None:
    model = estimate(["a b a", "a c a", "a d a"], order=2, min_count=2)
    assert model.words == ["<unk>", "<s>", "</s>", "a"]
    after_a = model.score(model.start(), "a")[1]
    assert model.score(after_a, "e")[0] > math.log(0.2)


@pytest.mark.parametrize("gap", ["\u00a0", "\u2028", "\x0c", "\u3000", "\x85"])
@pytest.mark.parametrize("separator", ["\t", " "])
def test_only_spaces_and_tabs_part_the_words_of_an_arpa_file(tmp_path, gap, separator):
    rows = ["-1.5\t<unk>", "-99\t<s>", "-0.9\t</s>", "-0.5\t10", f"-2.0\t10{gap}000", "-0.7\tapple", f"-3.0\tpear{gap}"]
    text = "\n".join(row.replace("\t", separator) for row in rows)
    (tmp_path / "a.arpa").write_text(f"\\data\\\nngram 1=7\n\n\\1-grams:\n{text}\n\n\\end\\\n", encoding="utf-8")
    model = load_arpa(tmp_path / "a.arpa")
    found = {word: model.score(model.start(), word)[0] / math.log(10) for word in model.words}
    assert found["apple"] == pytest.approx(-0.7)
    assert found[f"pear{gap}"] == pytest.approx(-3.0)
    assert found[f"10{gap}000"] == pytest.approx(-2.0)
    assert found["10"] == pytest.approx(-0.5)


@pytest.mark.parametrize(("row", "wrong"), [("-0.7\ta", "stands twice"), ("-0.7\tb\t-0.1\tc", "more words")])
def test_rows_that_would_shift_the_others_are_named(tmp_path, row, wrong):
    text = f"\\data\\\nngram 1=2\n\n\\1-grams:\n-0.5\ta\n{row}\n\n\\end\\\n"
    (tmp_path / "a.arpa").write_text(text)
    with pytest.raises(DataError, match=f"line 6: this 1-gram.*{wrong}"):
        load_arpa(tmp_path / "a.arpa")
