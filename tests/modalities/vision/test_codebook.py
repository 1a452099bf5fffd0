"""BEiT's tokenizer: its size, its training in prepare, and what training takes from it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from d2v.config import EvaluateConfig, parse
from d2v.data import fingerprint
from d2v.errors import ConfigError
from d2v.modalities import registry
from d2v.modalities.vision.config import DvaeConfig, VisionPrepareConfig
from d2v.modalities.vision.dvae import Dvae, ImageCodes, divergence, encoder_flops, relaxed, temperature_at
from d2v.pretraining import pretraining_job
from tests.modalities.vision.contract_case import CASE
from tests.objectives.helpers import SMALL_BEIT, recipe

VISION = registry.get("vision")
SMALL = parse(DvaeConfig, SMALL_BEIT["codebook"])


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ({"codes": 512, "width": 512, "layers": 3, "hidden": 64}, 1_553_603),
        ({"codes": 8192, "width": 512, "layers": 3, "hidden": 64}, 5_984_963),
        ({"codes": 512, "width": 64, "layers": 2, "hidden": 32}, 195_171),
    ],
)
def test_sizes_are_those_of_the_authors_small_model(sizes: dict[str, int], parameters: int) -> None:
    with torch.device("meta"):
        model = Dvae(parse(DvaeConfig, sizes))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_the_temperature_falls_along_half_a_cosine() -> None:
    found = [temperature_at(update, 1000, 1 / 16) for update in (0, 250, 500, 1000)]
    assert found == pytest.approx([1.0, 0.862706, 0.53125, 0.0625], abs=1e-6)


def test_the_divergence_is_that_from_even_use() -> None:
    assert float(divergence(torch.zeros(2, 12, 3, 3))) == pytest.approx(0.0, abs=1e-6)
    certain = torch.full((2, 12, 3, 3), -1e4)
    certain[:, 5] = 1e4
    assert float(divergence(certain)) == pytest.approx(math.log(12))


def test_a_cold_gumbel_softmax_draws_codes_by_their_shares() -> None:
    scores = torch.tensor([0.7, 0.2, 0.1]).log().view(1, 3, 1, 1).expand(4000, 3, 1, 1)
    noise = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0))
    choice = relaxed(scores, noise, 0.01)
    torch.testing.assert_close(choice.sum(dim=1), torch.ones(4000, 1, 1))
    assert choice.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert float(choice.max(dim=1).values.mean()) > 0.98


def test_codes_of_patches_come_row_by_row_and_operations_are_those_that_run() -> None:
    tokenizer, images = ImageCodes(SMALL, grid=4), torch.randn(2, 3, 16, 16)
    with FlopCounterMode(display=False) as counter:
        codes = tokenizer(images)
    assert codes.shape == (2, 16)
    assert torch.equal(codes.view(2, 4, 4), tokenizer.encoder(images).argmax(dim=1))
    assert counter.get_total_flops() / 2 == encoder_flops(SMALL, 16)
    assert tokenizer(torch.randn(2, 3, 24, 24)).shape == (2, 16), "images are resized to four pixels a token"
    assert not any(parameter.requires_grad for parameter in tokenizer.parameters())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glyphs")
    VISION.ingest(parse(VISION.recipe.model_fields["ingest"].annotation, CASE.ingest), folder / "corpus")
    return folder / "corpus"


def prepare(corpus: Path, out: Path, codebook: dict[str, object] | None) -> dict[str, object]:
    values = {key: value for key, value in CASE.prepare.items() if key != "codebook"}
    return dict(VISION.prepare(parse(VisionPrepareConfig, values | {"codebook": codebook}), corpus, out))


def test_it_learns_to_rebuild_images(corpus: Path, tmp_path: Path) -> None:
    sizes = {"codes": 32, "width": 16, "hidden": 16, "layers": 2, "batch_size": 16}
    early = prepare(corpus, tmp_path / "early", sizes | {"updates": 1})["codebook"]
    late = prepare(corpus, tmp_path / "late", sizes | {"updates": 60, "lr": 3e-3})["codebook"]
    assert late["reconstruction_error"] < 0.8 * early["reconstruction_error"]
    assert late["code_perplexity"] > 2.0
    picture = Image.open(tmp_path / "late" / "codebook.png")
    assert picture.size == (8 * 128, 2 * 128)
    again = prepare(corpus, tmp_path / "again", sizes | {"updates": 1})["codebook"]
    assert again == early


def test_a_codebook_is_part_of_the_fingerprint_and_none_is_as_before(corpus: Path, tmp_path: Path) -> None:
    without = prepare(corpus, tmp_path / "prepared", None)
    values = {key: value for key, value in CASE.prepare.items() if key != "codebook"}
    fields = VisionPrepareConfig.model_fields.keys() - {"codebook", "engine", "cluster"}
    parameters = parse(VisionPrepareConfig, values).model_dump(include=fields)
    before = {"corpus": without["corpus_fingerprint"], "parameters": parameters}
    assert without["fingerprint"] == fingerprint.of_values(before)
    assert "codebook" not in without
    sizes = SMALL_BEIT["codebook"] | {"updates": 1, "batch_size": 4}
    found = {prepare(corpus, tmp_path / "prepared", sizes | {"seed": seed})["fingerprint"] for seed in (0, 1)}
    assert len(found | {without["fingerprint"]}) == 3


def test_training_takes_the_tokenizer_that_prepare_left(corpus: Path, tmp_path: Path) -> None:
    sizes = SMALL_BEIT["codebook"] | {"updates": 2, "batch_size": 4}
    prepare(corpus, tmp_path / "prepared", sizes)
    data = VISION.open(tmp_path / "prepared")
    job = pretraining_job(VISION, recipe(SMALL_BEIT), tmp_path / "prepared", EvaluateConfig())
    weights = job.build().tokenizer.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in data.codebook(recipe(SMALL_BEIT)).items())
    others = recipe(SMALL_BEIT | {"codebook": SMALL_BEIT["codebook"] | {"codes": 13}})
    with pytest.raises(ConfigError, match=r"set prepare\.codebook to"):
        data.codebook(others)
    prepare(corpus, tmp_path / "none", None)
    with pytest.raises(ConfigError, match="have no codebook"):
        pretraining_job(VISION, recipe(SMALL_BEIT), tmp_path / "none", EvaluateConfig()).build()
