"""Search with a language model for a fine-tuned recogniser. The language model comes from the training transcripts or
from a file, and its weight is chosen on recordings that were kept out of training.

Shapes: B utterances, T frames, C symbols of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from d2v.config import DecodingConfig
from d2v.finetuning.ctc_vocabulary import CtcVocabulary
from d2v.finetuning.decoding.beam import BeamDecoder, BeamSettings
from d2v.finetuning.decoding.build_decoder import build_decoder
from d2v.finetuning.decoding.compiled import load_language_model
from d2v.finetuning.decoding.interface import Decoder, Lengths, WordModel
from d2v.finetuning.decoding.lexicon import Lexicon
from d2v.finetuning.decoding.tuning import tuned
from d2v.models.kneser_ney import estimate
from d2v.models.ngram import NGramModel
from d2v.progress import log

LANGUAGE_MODEL = "language_model.arpa"


@dataclass(frozen=True)
class Heard:
    """Recordings that were kept out of training.

    Attributes:
        log_probs_BTC: outputs of the CTC head.
        lengths: (B,) frames of each.
        references: (B,) normalised transcripts.
    """

    log_probs_BTC: Tensor
    lengths: Lengths
    references: Sequence[str]


def search_decoder(
    config: DecodingConfig, vocabulary: CtcVocabulary, transcripts: Sequence[str], folder: Path, dev: Heard | None
) -> tuple[Decoder, BeamSettings]:
    """The decoder of a recipe, and its settings, chosen on `dev` where there is one.

    Args:
        config: the recipe's decoding block; its decoder is "beam" or "flashlight".
        vocabulary: of the model.
        transcripts: normalised ones that the model was trained on. Their words are the lexicon of a closed vocabulary,
            with those of an ARPA file that is given.
        folder: gets the language model that is estimated from them, if no file is given.
        dev: lm_weight and word_bonus are chosen on it; None keeps those of the recipe.

    Raises:
        ConfigError: a package that the decoder needs is missing.
        DataError: the language model cannot be read.
    """
    file = Path(config.language_model) if config.language_model else folder / LANGUAGE_MODEL
    if config.language_model is None:
        folder.mkdir(parents=True, exist_ok=True)
        estimate(transcripts, config.lm_order).save_arpa(file)
    model = load_language_model(file)
    words = _words(config, model, transcripts)
    settings = BeamSettings(config.width, config.lm_weight, config.word_bonus, config.unknown_score)
    beam = BeamDecoder(vocabulary, settings, model, None if words is None else Lexicon(words, vocabulary))
    if dev is not None:
        settings = _chosen(beam, dev)
        beam = BeamDecoder(vocabulary, settings, model, beam.lexicon)
    return (
        beam if config.decoder == "beam" else build_decoder(config.decoder, vocabulary, settings, file, words)
    ), settings


def _words(config: DecodingConfig, model: WordModel, transcripts: Sequence[str]) -> list[str] | None:
    """Words that may be written; None for any. flashlight needs a list."""
    if not config.closed_vocabulary and config.decoder != "flashlight":
        return None
    known = model.words if isinstance(model, NGramModel) else []
    return sorted({word for text in transcripts for word in text.split()} | set(known))


def _chosen(beam: BeamDecoder, dev: Heard) -> BeamSettings:
    """The settings with the fewest wrong words; flashlight, which counts in the same units, takes them over."""
    found = tuned(beam, dev.log_probs_BTC, dev.lengths, dev.references)
    settings = found.settings
    rate = found.word_error_rates[settings.lm_weight, settings.word_bonus]
    log(
        f"evaluate: lm_weight {settings.lm_weight:g} and word_bonus {settings.word_bonus:g} have the lowest word error "
        f"rate, {100 * rate:.1f}%, on {len(dev.references):,} recordings kept out of training"
    )
    return settings
