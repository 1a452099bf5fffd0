import hashlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from d2v.config import parse
from d2v.errors import ConfigError, DataError
from d2v.modalities.speech import spoken
from d2v.modalities.speech.spoken import KEYWORDS, SpokenOptions, Utterance, speak

OPTIONS = SpokenOptions(count=60, test_count=40)


def digest(utterance: Utterance) -> str:
    return hashlib.sha256(utterance.samples.tobytes() + utterance.transcript.encode()).hexdigest()


def utterance(number: int, split="train", options=OPTIONS) -> Utterance:
    return next(speak(options, split, number, number + 1))


def test_an_utterance_depends_on_its_own_number_alone():
    together = [digest(one) for one in speak(OPTIONS, "train", 0, 12)]
    alone = [digest(utterance(number)) for number in reversed(range(12))]
    assert together == alone[::-1]
    assert len(set(together)) == 12
    more = SpokenOptions(count=61, test_count=1)
    assert digest(utterance(5, options=more)) == together[5]


def test_other_processes_say_the_same():
    code = (
        "import hashlib; from d2v.modalities.speech.spoken import *\n"
        "o = SpokenOptions(count=60, test_count=40)\n"
        "for n in {0}:\n"
        "    one = next(speak(o, 'test', n, n + 1))\n"
        "    print(n, hashlib.sha256(one.samples.tobytes() + one.transcript.encode()).hexdigest())\n"
    )
    said = []
    for order in ([3, 0, 17], [17, 3, 0]):
        lines = subprocess.check_output([sys.executable, "-c", code.format(order)], text=True).splitlines()
        said.append(dict(line.split() for line in lines))
    assert said[0] == said[1] == {str(n): digest(utterance(n, "test")) for n in (0, 3, 17)}


def test_breathy_voices_do_not_ask_the_clock():
    """espeak-ng seeds their noise with the time in seconds, unless it is told otherwise."""
    speaker = spoken._Speaker("one", "en+f2", 150, 50, 50)
    first = spoken._say("the kettle is over there", speaker, 1.0, 0.0).samples
    time.sleep(1.1)
    assert np.array_equal(spoken._say("the kettle is over there", speaker, 1.0, 0.0)[0], first)


@pytest.mark.parametrize("variant", ["Reed", "klatt4", "klatt6"])
def test_voices_of_the_klatt_synthesiser_do_not_go_on_in_numbers_of_c(variant):
    speaker = spoken._Speaker("one", f"en+{variant}", 150, 50, 50)
    first, second = (spoken._say("the kettle is over there", speaker, 1.0, 0.0)[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_sentences_hold_their_keyword_once_and_nothing_but_letters():
    found = list(speak(OPTIONS, "train", 0, 60))
    for one in found:
        assert re.fullmatch(r"[a-z']+( [a-z']+)*", one.transcript)
        assert [word for word in one.transcript.split() if word in KEYWORDS] == [one.label]
        seconds = len(one.samples) / one.rate_hz
        assert 1.0 < seconds < 4.0
        assert 0.05 < np.abs(one.samples.astype(float)).max() / 32768 < 0.95
    assert [one.label for one in found] == list(KEYWORDS) * 3
    positions = {one.transcript.split().index(one.label) for one in found}
    assert len(positions) >= 5
    assert len({one.transcript for one in found}) > 55


def test_short_sentences_are_short():
    long, short = (
        [len(one.transcript.split()) for one in speak(SpokenOptions(sentences=kind), "train", 0, 20)]
        for kind in ("long", "short")
    )
    assert min(long) >= 4
    assert max(long) <= 9
    assert min(short) >= 2
    assert max(short) <= 5


def test_the_test_split_has_speakers_of_its_own_and_others():
    options = SpokenOptions(count=200, test_count=200, speakers=6, unseen_speakers=6)
    draw = {
        split: {one.speaker for one in speak(options, split, 0, count)}
        for split, count in (("train", 40), ("test", 60))
    }
    assert len(draw["train"]) == 6
    assert len(draw["test"]) == 12
    assert draw["train"] < draw["test"]
    names = [spoken._speaker(0, number).voice for number in range(len(spoken.VARIANTS) * len(spoken.ACCENTS))]
    assert len(set(names)) == len(names)


def with_phones(number: int, options=OPTIONS) -> Utterance:
    return next(speak(options, "train", number, number + 1, with_phones=True))


def test_phones_change_no_sample():
    for variant in spoken.VARIANTS:
        speaker = spoken._Speaker("x", f"{spoken.ACCENTS[len(variant) % 7]}+{variant}", 160, 50, 50)
        said = [spoken._say("is that yellow kettle in a box?", speaker, 1.0, 0.0, phones) for phones in (False, True)]
        assert np.array_equal(said[0].samples, said[1].samples), variant
        assert not said[0].phones
    assert [digest(with_phones(number)) for number in range(20)] == [digest(utterance(number)) for number in range(20)]


def test_phones_go_from_the_first_sample_to_the_last():
    for number in range(20):
        one = with_phones(number)
        starts = [phone.start for phone in one.phones]
        assert starts == sorted(starts)
        assert starts[0] == 0
        assert starts[-1] < len(one.samples)
        assert {one.phones[0].name, one.phones[-1].name} == {spoken.SILENCE}
        assert len(starts) > len(one.transcript.split())


def test_phones_are_where_they_are_heard():
    """The voice's pauses are quieter than its vowels, and the lead of silence is counted."""
    options = SpokenOptions(min_snr_db=60.0, max_snr_db=60.0, max_silence_s=2.0)
    vowels, pauses = [], []
    for number in range(20):
        one = with_phones(number, options)
        ends = [*(phone.start for phone in one.phones[1:]), len(one.samples)]
        for phone, end in zip(one.phones, ends, strict=True):
            heard = one.samples[phone.start : end].astype(float)
            if len(heard) > 0.03 * one.rate_hz and phone.name[0] in "aeiouAEIOU@0V_":
                (pauses if phone.name == spoken.SILENCE else vowels).append(np.sqrt(np.square(heard).mean()))
    assert len(vowels) > 100
    assert np.quantile(vowels, 0.02) > 3.0 * np.quantile(pauses, 0.9)


def test_phones_have_names_without_stress():
    said = spoken._say("the yellow ladder", spoken._Speaker("x", "en-us", 160, 50, 50), 1.0, 0.0, with_phones=True)
    names = [phone.name for phone in said.phones]
    assert names[:2] == ["D", "@2"]
    assert [name for name in names if name in ("l", "d", "E")].count("l") == 2
    assert not any(name[0] in "'," for name in names)
    assert names[-1] == spoken.SILENCE


def test_every_voice_speaks():
    for variant in spoken.VARIANTS:
        speaker = spoken._Speaker("x", f"en-us+{variant}", 160, 50, 50)
        samples, rate_hz, _ = spoken._say("kettle", speaker, 1.0, 0.0)
        assert (rate_hz, len(samples) > 4000, np.abs(samples).max() > 0.05) == (22_050, True, True), variant
    for accent in spoken.ACCENTS:
        assert len(spoken._say("kettle", spoken._Speaker("x", f"{accent}+m3", 160, 50, 50), 1.0, 0.0)[0]) > 4000


def test_words_of_the_grammar_are_no_keywords():
    words = " ".join(
        [*spoken.TEMPLATES, *spoken.SHORT_TEMPLATES, *(word for words in spoken.WORDS.values() for word in words)]
    ).split()
    assert not set(KEYWORDS) & set(words)


def test_a_long_path_of_the_data_is_reached_by_a_short_one(tmp_path, monkeypatch):
    import espeakng_loader

    whole = digest(utterance(1))
    folder = tmp_path / ("x" * 120) / ("y" * 60)
    folder.mkdir(parents=True)
    (folder / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(folder / "espeak-ng-data"))
    assert digest(utterance(1)) == whole


def test_errors_name_the_fix(tmp_path, monkeypatch):
    import espeakng_loader

    with pytest.raises(ConfigError, match="lower one of them"):
        parse(SpokenOptions, {"speakers": 1000}, at="speech.ingest.options")
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(DataError, match="finds no data"):
        utterance(0)
    monkeypatch.setattr(spoken, "_is_loaded", lambda path: True)
    with pytest.raises(DataError, match="in a process of its own"):
        utterance(0)


def test_the_version_is_known():
    assert re.match(r"\d+\.\d+", spoken.espeak_version())
