"""Files to encode, and models of random weights that both sides read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from tokenizers import ByteLevelBPETokenizer

from d2v.modalities.text.pydocs import pydocs_source

SEED = 2022
IMAGES, RECORDINGS, TEXTS = 96, 32, 192
IMAGE_PX, RATE_HZ, SECONDS = (320, 240), 16_000, (1.0, 12.0)
TEXT_CHARACTERS = (20, 1_200)
VOCABULARY = 4_000
SIZES: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}


def write_files(modality: str, folder: Path) -> Path:
    """A folder of JPEGs, of WAV files of many lengths, or of one text file with a text a line; always the same."""
    folder.mkdir(parents=True, exist_ok=True)
    _FILES[modality](folder, np.random.default_rng(SEED))
    return folder


def _images(folder: Path, draw: np.random.Generator) -> None:
    for number in range(IMAGES):
        coarse = Image.fromarray(draw.integers(0, 256, (15, 20, 3), np.uint8))
        coarse.resize(IMAGE_PX, Image.Resampling.BICUBIC).save(folder / f"{number:03}.jpg", quality=90)


def _recordings(folder: Path, draw: np.random.Generator) -> None:
    for number in range(RECORDINGS):
        samples = draw.normal(0, 0.1, int(RATE_HZ * draw.uniform(*SECONDS)))
        soundfile.write(folder / f"{number:03}.wav", samples, RATE_HZ)


def _text_file(folder: Path, draw: np.random.Generator) -> None:
    (folder / "texts.txt").write_text("\n".join(_texts(draw)) + "\n", encoding="utf-8")


_FILES = {"vision": _images, "speech": _recordings, "text": _text_file}


def _texts(draw: np.random.Generator) -> list[str]:
    documents = (item.data for item in pydocs_source().items(0) if isinstance(item.data, bytes))
    found: list[str] = []
    for document in documents:
        line = " ".join(document.decode().split())[: int(draw.integers(*TEXT_CHARACTERS))]
        found += [line] if line else []
        if len(found) == TEXTS:
            break
    return found


def write_model(modality: str, size: str, folder: Path, files: Path) -> Path:
    """A data2vec model of transformers with random weights and what prepares its inputs."""
    torch.manual_seed(SEED)
    _MODELS[modality](SIZES[size], folder, files).eval().save_pretrained(folder)
    return folder


def _image_model(about: Any, folder: Path, files: Path) -> Any:
    import transformers as t

    t.BeitImageProcessor(do_center_crop=False, size={"height": 224, "width": 224}).save_pretrained(folder)
    return t.Data2VecVisionModel(t.Data2VecVisionConfig(**about, use_relative_position_bias=True))


def _audio_model(about: Any, folder: Path, files: Path) -> Any:
    import transformers as t

    t.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return t.Data2VecAudioModel(t.Data2VecAudioConfig(**about))


def _text_model(about: Any, folder: Path, files: Path) -> Any:
    import transformers as t

    _tokenizer(files, folder)
    return t.Data2VecTextModel(t.Data2VecTextConfig(**about, vocab_size=VOCABULARY, max_position_embeddings=514))


_MODELS = {"vision": _image_model, "speech": _audio_model, "text": _text_model}


def _tokenizer(texts: Path, folder: Path) -> None:
    import transformers as t

    folder.mkdir(parents=True, exist_ok=True)
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train([str(texts / "texts.txt")], vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    bpe.save_model(str(folder))
    files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
    t.RobertaTokenizerFast(*files, model_max_length=512).save_pretrained(folder)
