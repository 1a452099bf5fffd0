"""A decoder by its name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from d2v.errors import ConfigError
from d2v.finetuning.ctc_vocabulary import CtcVocabulary
from d2v.finetuning.decoding.beam import BeamDecoder, BeamSettings
from d2v.finetuning.decoding.compiled import FlashlightDecoder, load_language_model
from d2v.finetuning.decoding.greedy import GreedyDecoder
from d2v.finetuning.decoding.interface import Decoder
from d2v.finetuning.decoding.lexicon import Lexicon

Kind = Literal["greedy", "beam", "flashlight"]


def build_decoder(
    kind: Kind,
    vocabulary: CtcVocabulary,
    settings: BeamSettings | None = None,
    language_model: Path | None = None,
    words: Iterable[str] | None = None,
) -> Decoder:
    """A decoder.

    Args:
        kind: "greedy" takes the best path and no language model, "beam" and "flashlight" search.
        vocabulary: what the symbols mean.
        settings: of the search.
        language_model: an ARPA file or a binary file of KenLM.
        words: the lexicon; None writes any word, which "flashlight" cannot.

    Raises:
        ConfigError: a combination that is impossible, or a package that is missing.
        DataError: a language model or lexicon that cannot be used.
    """
    if kind == "greedy":
        if language_model is not None or words is not None:
            raise ConfigError(
                "The greedy decoder takes no language model and no lexicon: set the decoder to beam, or leave them out"
            )
        return GreedyDecoder(vocabulary)
    if kind == "flashlight":
        if words is None:
            raise ConfigError(
                "The decoder flashlight writes words of a lexicon only: give one, or take the decoder beam"
            )
        return FlashlightDecoder(vocabulary, words, settings, language_model)
    model = None if language_model is None else load_language_model(language_model)
    return BeamDecoder(vocabulary, settings, model, None if words is None else Lexicon(words, vocabulary))
