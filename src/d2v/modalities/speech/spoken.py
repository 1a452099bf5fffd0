"""The embedded corpus `spoken`: sentences of a small grammar, spoken by espeak-ng, each with one of KEYWORDS in it.

The label is the keyword; transcripts are exact. Everything is a pure function of the options and an utterance's own
number: words, speaker and room are counter-based draws, and espeak-ng, which keeps much state between utterances, is
loaded afresh for each (2 ms). It can say which phone it speaks when; that changes no sample.
"""

from __future__ import annotations

import _ctypes
import ctypes
import functools
import itertools
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from d2v.config import Block, NonNegativeInt, PositiveInt
from d2v.errors import DataError

Split = Literal["train", "test"]
Samples = NDArray[np.int16]
Floats = NDArray[np.float32]

KEYWORDS = (
    *("basket", "biscuit", "blanket", "bottle", "bucket", "candle", "carpet", "compass", "curtain", "hammer"),
    *("jacket", "kettle", "ladder", "lantern", "mirror", "pillow", "rocket", "saddle", "tunnel", "wallet"),
)
"""The classes; words of two syllables with sounds in common, so that which sounds there are says little."""

TEMPLATES = (
    "the {keyword} is {place}",
    "{name} {did} the {adjective} {keyword}",
    "my {keyword} looks {adjective} {when}",
    "{name} {did} a {keyword} {place}",
    "{when} {name} {did} this {keyword}",
    "the {adjective} {keyword} isn't {name}'s",
    "is that {adjective} {keyword} {place}?",
    "nobody {did} her {keyword} {when}",
    "{place} we {did} one more {keyword}",
    "don't leave the {keyword} {place}",
    "which {keyword} did {name} mean {when}?",
    "what {name} {did} was only a {keyword}",
)
SHORT_TEMPLATES = (
    "the {keyword}",
    "a {adjective} {keyword}",
    "my {adjective} {keyword}",
    "{name}'s {keyword}",
    "{did} the {keyword}",
    "this {keyword} {when}",
    "{name} {did} one {keyword}",
    "which {keyword}?",
    "no {keyword} {when}",
    "one more {keyword}",
)
SENTENCES = {"long": TEMPLATES, "short": SHORT_TEMPLATES}
WORDS = {
    "name": (
        "anna",
        "peter",
        "maria",
        "oliver",
        "julia",
        "simon",
        "emma",
        "martin",
        "laura",
        "hector",
        "susan",
        "david",
    ),
    "did": ("found", "sold", "painted", "carried", "borrowed", "forgot", "kept", "wanted", "dropped", "washed", "hid"),
    "adjective": ("yellow", "small", "heavy", "broken", "silver", "wooden", "simple", "old", "round", "dusty", "cheap"),
    "place": (
        *("on the table", "in the kitchen", "under the bridge", "behind the house", "near the river", "by the door"),
        *("at the station", "in a box", "over there", "beside the fire", "on the roof", "below the stairs"),
    ),
    "when": ("today", "this morning", "at noon", "last evening", "on monday", "before lunch", "in the end", "again"),
}
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbcwmd", "en-gb-x-gbclan")
# espeak-ng's variants that speak clearly; those that shout, whisper or play robot are left out
VARIANTS = (
    *("m3", "f2", "Alex", "linda", "m7", "Annie", "adam", "f4", "Lee", "steph", "edward", "belinda", "m1", "f5"),
    *("Mike", "Alicia", "klatt4", "grandma", "david", "f1", "boris", "aunty", "Reed", "f3", "grandpa", "Andrea"),
    *("m2", "robert", "quincy", "Michael", "m8", "max", "benjamin", "m4", "Mario", "victor", "klatt6", "m5", "rob"),
    *("Denis", "m6", "edward2", "Diogo"),
)
TEST_STREAM, SPEAKER_STREAM = 2**40, 2**41  # first counters: a split does not move when the count of another changes
ESPEAK_RATE, ESPEAK_PITCH, ESPEAK_RANGE = 1, 3, 4
ESPEAK_SYNCHRONOUS, ESPEAK_DO_NOT_EXIT, ESPEAK_UTF8, ESPEAK_BY_CHARACTER = 2, 0x8000, 1, 1
ESPEAK_PHONEME_EVENTS, ESPEAK_EVENT_PHONEME = 1, 7
ESPEAK_STRESS = "',"
"""Marks before a stressed phone: primary and secondary."""
SILENCE = "_"
"""The name of a pause, whatever its length."""
BREATH_SEED = 1
ESPEAK_PATH_BYTES = 140  # espeak-ng keeps 160 bytes for the path of its data and cuts longer ones off
FFT_STEP = 4096


class SpokenOptions(Block):
    """What the `spoken` corpus sounds like."""

    count: PositiveInt = Field(3_000, description="utterances of the train split")
    test_count: NonNegativeInt = 600
    sentences: Literal["long", "short"] = Field("long", description="four to nine words, or two to five")
    speakers: PositiveInt = Field(48, description="speakers of both splits")
    unseen_speakers: NonNegativeInt = Field(12, description="more speakers, in the test split only")
    min_snr_db: float = Field(12.0, description="speech over noise, drawn for each utterance")
    max_snr_db: float = 35.0
    max_silence_s: Annotated[float, Field(ge=0.0, le=10.0)] = Field(0.3, description="at most, before and after")
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _options_fit(self) -> SpokenOptions:
        if self.min_snr_db > self.max_snr_db:
            raise ValueError(f"min_snr_db {self.min_snr_db} is above max_snr_db {self.max_snr_db}: lower min_snr_db")
        if self.speakers + self.unseen_speakers > len(VARIANTS) * len(ACCENTS):
            raise ValueError(
                f"speakers {self.speakers} and unseen_speakers {self.unseen_speakers} are together more than the "
                f"{len(VARIANTS) * len(ACCENTS)} voices there are: lower one of them"
            )
        return self


class Phone(NamedTuple):
    """A phone, which lasts until the next one starts.

    Attributes:
        name: espeak-ng's own, without stress, such as `tS`; SILENCE of a pause.
        start: its first sample.
    """

    name: str
    start: int


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence.

    Attributes:
        samples: (n,) int16 at `rate_hz`.
        rate_hz: samples a second.
        label: its keyword.
        transcript: its words in lower case, with apostrophes, separated by single spaces.
        speaker: name of the speaker.
        phones: from the first sample to the last, if they were asked for.
    """

    samples: Samples
    rate_hz: int
    label: str
    transcript: str
    speaker: str
    phones: tuple[Phone, ...] = ()


@dataclass(frozen=True)
class _Speaker:
    """A voice of espeak-ng with its settings: words a minute, pitch and its range from 0 to 99."""

    name: str
    voice: str
    words_per_minute: int
    pitch: int
    pitch_range: int


def speak(
    options: SpokenOptions, split: Split, start: int, stop: int, with_phones: bool = False
) -> Iterator[Utterance]:
    """Utterances `start` to `stop` of a split; the keywords take turns, so every split is balanced. The same utterance
    has the same samples in every process, with its phones and without.

    Raises:
        DataError: espeak-ng cannot be used here.

    Example:
        >>> utterance = next(speak(SpokenOptions(), "train", 0, 1))
        >>> utterance.label in utterance.transcript.split()
        True
    """
    first = TEST_STREAM if split == "test" else 0
    voices = options.speakers + (options.unseen_speakers if split == "test" else 0)
    for number in range(start, stop):
        random = _random(options.seed, first + number)
        keyword = KEYWORDS[number % len(KEYWORDS)]
        sentence = _sentence(SENTENCES[options.sentences], keyword, random)
        speaker = _speaker(options.seed, int(random.random() * voices))
        faster, higher = 0.92 + 0.16 * random.random(), 6.0 * random.random() - 3.0
        said = _say(sentence, speaker, faster, higher, with_phones)
        samples, lead = _in_a_room(said.samples, said.rate_hz, options, random)
        phones = tuple(Phone(name, lead + begin) for name, begin in said.phones)
        if with_phones:
            phones = (Phone(SILENCE, 0), *phones)
        yield Utterance(samples, said.rate_hz, keyword, sentence.rstrip("?"), speaker.name, phones)


@functools.cache
def espeak_version() -> str:
    """The version of espeak-ng, on which the samples depend."""
    with _espeak() as (library, _):
        library.espeak_Info.restype = ctypes.c_char_p
        return str(library.espeak_Info(None).decode())


# -------------------------------------------------------------------------------------------- draws


def _random(seed: int, counter: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, counter]))


def _sentence(templates: tuple[str, ...], keyword: str, random: np.random.Generator) -> str:
    """One of the sentences with a keyword; a question ends with its mark, which changes the melody."""
    template = templates[int(random.random() * len(templates))]
    chosen = {slot: words[int(random.random() * len(words))] for slot, words in WORDS.items()}
    return template.format(keyword=keyword, **chosen)


def _speaker(seed: int, number: int) -> _Speaker:
    """Speaker `number`: no two have the same voice."""
    accent = ACCENTS[(number + number // len(VARIANTS)) % len(ACCENTS)]
    voice = f"{accent}+{VARIANTS[number % len(VARIANTS)]}"
    rate, pitch, pitch_range = _random(seed, SPEAKER_STREAM + number).random(3)
    return _Speaker(
        f"{number:03d}-{voice}", voice, int(140 + 50 * rate), int(35 + 30 * pitch), int(30 + 50 * pitch_range)
    )


def _in_a_room(dry: Floats, rate_hz: int, options: SpokenOptions, random: np.random.Generator) -> tuple[Samples, int]:
    """The speech as a microphone may hear it: between silences, through a mild low-pass that delays nothing, in noise
    from white to pink, and at some level under full scale; and the sample where the speech begins."""
    before, after, cutoff, tilt, snr, level = random.random(6)
    lead, tail = (int(share * options.max_silence_s * rate_hz) for share in (before, after))
    count = lead + len(dry) + tail
    size = -(-count // FFT_STEP) * FFT_STEP
    padded = np.zeros(size, np.float32)
    padded[lead : lead + len(dry)] = dry
    frequency_hz = np.maximum(np.fft.rfftfreq(size, 1.0 / rate_hz), 50.0)
    speech = np.fft.rfft(padded) / np.sqrt(1.0 + (frequency_hz / (3000.0 + 5000.0 * cutoff)) ** 4)
    noise = random.standard_normal(2 * len(speech), np.float32).view(np.complex64) / frequency_hz ** (0.5 * tilt)
    snr_db = options.min_snr_db + snr * (options.max_snr_db - options.min_snr_db)
    # power of the speech while it lasts over that of the noise, which fills the whole array
    wanted = np.square(np.abs(speech)).sum() * (size / len(dry)) / 10.0 ** (snr_db / 10.0)
    spectrum = speech + noise * np.sqrt(wanted / np.square(np.abs(noise)).sum())
    heard = np.fft.irfft(spectrum, size)[:count]
    peak = 32767.0 * 10.0 ** (-(1.0 + 17.0 * level) / 20.0)
    return np.rint(heard * (peak / max(float(np.abs(heard).max()), 1e-9))).astype(np.int16), lead


# ------------------------------------------------------------------------------------------- espeak


class _Event(ctypes.Structure):
    """espeak_EVENT of its speak_lib.h. An array of them ends with one of type 0."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),  # the same in samples
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),  # in a union; of a phoneme its name, which may fill all bytes
    )


class _Said(NamedTuple):
    """Samples (n,) in -1..1, their rate in Hz, and phones where these were asked for."""

    samples: Floats
    rate_hz: int
    phones: list[Phone]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
_one_at_a_time = threading.Lock()


def _say(sentence: str, speaker: _Speaker, faster: float, higher: float, with_phones: bool = False) -> _Said:
    """One sentence from a fresh espeak-ng."""
    pieces: list[bytes] = []
    phones: list[Phone] = []

    @_Callback
    def collect(samples: int | None, count: int, events: Any) -> int:
        if samples and count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        if events:
            happened = itertools.takewhile(lambda event: event.type, events)
            phones.extend(_phone(event) for event in happened if event.type == ESPEAK_EVENT_PHONEME)
        return 0

    with _espeak(ESPEAK_PHONEME_EVENTS if with_phones else 0) as (library, rate_hz):
        library.espeak_SetSynthCallback(collect)
        if library.espeak_SetVoiceByName(speaker.voice.encode()):
            raise DataError(f"espeak-ng has no voice {speaker.voice}: install the package espeakng-loader again.")
        library.espeak_SetParameter(ESPEAK_RATE, round(speaker.words_per_minute * faster), 0)
        library.espeak_SetParameter(ESPEAK_PITCH, round(speaker.pitch + higher), 0)
        library.espeak_SetParameter(ESPEAK_RANGE, speaker.pitch_range, 0)
        text = sentence.encode() + b"\0"
        failed = library.espeak_Synth(
            text, ctypes.c_size_t(len(text)), 0, ESPEAK_BY_CHARACTER, 0, ESPEAK_UTF8, None, None
        )
    if failed or not pieces:
        raise DataError(f"espeak-ng said nothing (status {failed}): install the package espeakng-loader again.")
    samples = np.frombuffer(b"".join(pieces), np.int16).astype(np.float32) / np.float32(32768.0)
    return _Said(samples, rate_hz, phones)


def _phone(event: Any) -> Phone:
    name = event.name.decode("utf-8", "replace").lstrip(ESPEAK_STRESS)
    return Phone(SILENCE if name.startswith(SILENCE) else name, event.sample)


@contextmanager
def _espeak(events: int = 0) -> Iterator[tuple[Any, int]]:
    """espeak-ng, loaded for one use, and its sample rate: unloading is what resets it, its own functions do not."""
    import espeakng_loader  # imported late: it belongs to this source alone

    path = espeakng_loader.get_library_path()
    with _one_at_a_time, _short_path(Path(espeakng_loader.get_data_path())) as data:
        if _is_loaded(path):
            raise DataError(
                "espeak-ng is in use by another part of this process, and what it says would depend on that: run the "
                "ingest step in a process of its own."
            )
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            raise DataError(
                f"espeak-ng cannot be loaded ({error}): install the package espeakng-loader again, or set "
                "speech.ingest.source to recordings of your own."
            ) from error
        try:
            yield library, _initialised(library, data, events)
        finally:
            library.espeak_Terminate()
            _ctypes.dlclose(library._handle)


def _initialised(library: Any, data: Path, events: int) -> int:
    rate_hz = int(library.espeak_Initialize(ESPEAK_SYNCHRONOUS, 0, os.fsencode(data), ESPEAK_DO_NOT_EXIT | events))
    if rate_hz <= 0:
        raise DataError(f"espeak-ng finds no data in {data}: install the package espeakng-loader again.")
    library.espeak_ng_SetRandSeed(ctypes.c_long(BREATH_SEED))  # breathy voices; the clock seeds them otherwise
    ctypes.CDLL(None).srand(BREATH_SEED)  # voices of its Klatt synthesiser draw from C's own numbers, which go on
    return rate_hz


def _is_loaded(path: str) -> bool:
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    _ctypes.dlclose(library._handle)
    return True


@contextmanager
def _short_path(folder: Path) -> Iterator[Path]:
    """The folder itself, or a link to it where its path is longer than espeak-ng can take."""
    if len(os.fsencode(folder)) <= ESPEAK_PATH_BYTES:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        link = Path(temporary) / "espeak-ng-data"
        link.symlink_to(folder)
        yield link
