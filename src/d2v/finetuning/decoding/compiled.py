"""Language models and decoding by C++ libraries that are installed on demand: kenlm and flashlight-text.

kenlm is for large models: it maps a binary file into memory, where an ARPA file takes minutes and gigabytes.
flashlight is there to repeat published numbers; it is faster than `BeamDecoder` for narrow beams only (9 s of speech,
0.05 s against 0.11 s for 50 prefixes, 1.8 s against 1.4 s for 1,500).
"""

from __future__ import annotations

import importlib
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2v.errors import ConfigError, DataError
from d2v.finetuning.ctc_vocabulary import CtcVocabulary
from d2v.finetuning.decoding.beam import BeamSettings
from d2v.finetuning.decoding.greedy import written
from d2v.finetuning.decoding.interface import Lengths, WordModel, checked_lengths
from d2v.models.ngram import LN_10, load_arpa

INSTALL = "pip install 'd2v[decoding]'"
KENLM_SUFFIXES = (".bin", ".binary", ".klm", ".trie")


def load_language_model(path: Path) -> WordModel:
    """A language model from an ARPA file, compressed or not, or a binary file of KenLM.

    Raises:
        DataError: the file cannot be read.
        ConfigError: it is a binary file, and kenlm is not installed.
    """
    return KenlmModel(path) if path.suffix in KENLM_SUFFIXES else load_arpa(path)


class KenlmModel:
    """A language model that KenLM holds; see `WordModel`.

    Args:
        path: a binary or ARPA file.

    Raises:
        DataError: KenLM cannot read it.
        ConfigError: kenlm is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._kenlm = _imported("kenlm", "language models in KenLM's binary format")
        try:
            self._model = self._kenlm.Model(str(path))
        except OSError as error:
            raise DataError(
                f"KenLM cannot read {path} ({error}): write it again with build_binary, or give the ARPA file"
            ) from error

    def start(self) -> Any:
        """The state after `<s>`."""
        state = self._kenlm.State()
        self._model.BeginSentenceWrite(state)
        return state

    def score(self, state: Any, word: str) -> tuple[float, Any]:
        """ln p(word | state), the unknown word as `<unk>`, and the state after it."""
        after = self._kenlm.State()
        return self._model.BaseScore(state, word, after) * LN_10, after

    def end(self, state: Any) -> float:
        """ln p(end of the sentence | state)."""
        return self.score(state, "</s>")[0]

    def knows(self, word: str) -> bool:
        """Whether the word is in the vocabulary."""
        return word in self._model


class FlashlightDecoder:
    """flashlight's beam search with a lexicon (Kahn et al., arXiv 2201.12465), through torchaudio: what wav2vec 2.0
    and data2vec report with a language model. Unlike `BeamDecoder`, it lets the beginning of a word count as the best
    word that begins so; which texts survive a narrow beam differs a little.

    Args:
        vocabulary: what the symbols mean.
        words: the lexicon; words with characters that the vocabulary lacks are left out.
        settings: width, weight, word bonus and prefix margin are used.
        language_model: ARPA or binary file for KenLM.

    Raises:
        ConfigError: flashlight-text or kenlm is not installed.
        DataError: no word can be spelled.
    """

    def __init__(
        self,
        vocabulary: CtcVocabulary,
        words: Iterable[str],
        settings: BeamSettings | None = None,
        language_model: Path | None = None,
    ) -> None:
        for module in ("flashlight.lib.text", "kenlm"):
            _imported(module, "flashlight's beam search")
        from torchaudio.models.decoder import ctc_decoder  # it asks for flashlight when it is imported

        self.vocabulary, settings = vocabulary, settings or BeamSettings()
        spelled = [word for word in words if word and not vocabulary.unknown_characters([word])]
        if not spelled:
            raise DataError("No word of the lexicon can be spelled with the model's symbols: give words in upper case")
        with tempfile.TemporaryDirectory() as folder:
            lexicon = Path(folder) / "lexicon.txt"
            lexicon.write_text("".join(f"{word}\t{' '.join(word)} |\n" for word in dict.fromkeys(spelled)))
            self._decoder = ctc_decoder(
                lexicon=str(lexicon),
                tokens=list(vocabulary.symbols),
                lm=None if language_model is None else str(language_model),
                beam_size=settings.width,
                beam_threshold=math.inf if settings.prefix_margin is None else settings.prefix_margin,
                lm_weight=settings.lm_weight * LN_10,  # it counts in base 10
                word_score=settings.word_bonus,
                log_add=True,
                blank_token="<s>",
                sil_token="|",
            )

    def decode(self, log_probs_BTC: Tensor, lengths: Lengths = None) -> list[str]:
        """The best text of each utterance, see `Decoder`."""
        frames = torch.tensor(checked_lengths(log_probs_BTC, lengths, len(self.vocabulary)))
        # It adds what it rules out to other scores, where an infinity would spread.
        finite_BTC = written(log_probs_BTC.detach().float().cpu()).clamp_min(-1e4).contiguous()
        return [" ".join(best[0].words) if best else "" for best in self._decoder(finite_BTC, frames)]


def _imported(module: str, wanted: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"The package {module.partition('.')[0]} for {wanted} is not installed ({error}): run {INSTALL}, "
            "or take the decoder beam and an ARPA file"
        ) from error
