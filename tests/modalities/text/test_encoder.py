"""Text encoders: sizes of the reference, padding, masks, gradients."""

from functools import partial

import pytest
import torch

from d2v.config import parse
from d2v.data.batch import Batch
from d2v.data.random import mix
from d2v.modalities.text.config import TextTrainConfig
from d2v.modalities.text.encoder import PAD, build_encoder
from d2v.modalities.text.masking import draw_masks, hidden_tokens, max_tokens
from d2v.models.decoder import ConvDecoder
from d2v.models.masking import Masks
from d2v.models.teacher import Teacher
from d2v.objectives.data2vec1 import Data2Vec1
from d2v.objectives.data2vec2 import Data2Vec2

DECODER = {"layers": 5, "width": 768, "kernel": 9, "groups": 1, "residual": False, "projection_layers": 2}
BASE = {
    "encoder": {"width": 768, "depth": 12, "heads": 12},
    "mask": {"kind": "random"},
    "objective": {
        "name": "data2vec2",
        "decoder": DECODER,
        "targets": {"top_k_layers": 12},
        "ema": {"decay_start": 0.9999, "decay_end": 0.99999, "anneal_updates": 100_000, "shared_local": True},
        "loss": {"scale": 1.0},
    },
    "optimizer": {"lr": 2e-4},
    "batch_size": 1,
    "max_updates": 1,
}
LARGE = BASE | {"encoder": {"width": 1024, "depth": 24, "heads": 16}}
FIRST = BASE | {
    "encoder": BASE["encoder"] | {"layout": "data2vec1"},
    "mask": {"kind": "span"},
    "objective": {
        "name": "data2vec1",
        "head": "mlp",
        "targets": {"top_k_layers": 10, "layer_norms": ["layer"]},
        "ema": {"decay_start": 0.999, "decay_end": 0.9999, "anneal_updates": 300_000, "copied": ["stem."]},
        "loss": {"beta": 4.0, "scale": 1.0},
    },
}
WORDS = 30
SMALL = {"vocab_size": WORDS, "max_tokens": 40, "width": 16, "depth": 3, "heads": 2}
LAYOUTS = pytest.mark.parametrize("layout", ["data2vec2", "data2vec1"])
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def small(layout="data2vec2", masks_per_sample=2, **encoder):
    """A small recipe of either version."""
    values = BASE if layout == "data2vec2" else FIRST
    objective = values["objective"] | {"targets": values["objective"]["targets"] | {"top_k_layers": 2}}
    if layout == "data2vec2":
        objective |= {"decoder": DECODER | {"layers": 2, "width": 8}, "masks_per_sample": masks_per_sample}
    return parse(TextTrainConfig, values | {"encoder": SMALL | {"layout": layout} | encoder, "objective": objective})


def build_small(layout="data2vec2", **encoder):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build_encoder(small(layout, **encoder)).double()
        for name, parameter in built.named_parameters():  # off its initialisation, where biases are trivial
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    return built.eval()


def sentences(*lengths):
    return [torch.randint(4, WORDS, (n,), generator=torch.Generator().manual_seed(n)) for n in lengths]


def side_by_side(items, filler=PAD):
    """(ids padded with `filler`, lengths)."""
    lengths = torch.tensor([len(item) for item in items])
    values = torch.full((len(items), int(lengths.max())), filler)
    for row, item in zip(values, items, strict=True):
        row[: len(item)] = item
    return values, lengths


# ------------------------------------------------------------------------------------------ sizes


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("values", "with_decoder", "without", "averaged"),
    [(BASE, 152_961_792, 124_054_272, 144), (LARGE, 385_379_584, 354_309_120, 288)],
    ids=["base", "large"],
)
def test_sizes_of_the_published_models(values, with_decoder, without, averaged):
    recipe = parse(TextTrainConfig, values)
    with torch.device("meta"):
        student = build_encoder(recipe)
        decoder = ConvDecoder(student.width, recipe.objective.decoder, grid=None)
        teacher = Teacher(student, recipe.objective.ema.copied, shared_local=True)
    assert (_count(student) + _count(decoder), _count(student)) == (with_decoder, without)
    assert len(list(teacher.encoder.parameters())) == averaged


@LAYOUTS
def test_tokens_and_flops(layout):
    from torch.utils.flop_counter import FlopCounterMode

    encoder, ids = build_small(layout), side_by_side(sentences(20, 12))[0]
    assert encoder.stem.num_tokens(ids) == 20
    assert encoder.stem.token_lengths(torch.tensor([20, 12])).tolist() == [20, 12]
    with FlopCounterMode(display=False) as counter:
        encoder(ids)
    ours = encoder.stem.local_flops(20) + encoder.stem.place_flops(20) + encoder.flops(20)
    assert 2 * ours == pytest.approx(counter.get_total_flops(), rel=1e-6)


@LAYOUTS
def test_positions_count_from_the_row_after_padding(layout):
    stem = build_small(layout).stem
    placing = stem.local.placing if layout == "data2vec2" else stem.placing
    ids = sentences(7)[0][None]
    expected = placing.norm(stem.local.words.weight[ids] + placing.positions.weight[2:9])
    close(stem.place(stem(ids), None, None)[0], expected)


# ------------------------------------------------------------------------------------------ padding


@LAYOUTS
@pytest.mark.parametrize("filler", [PAD, 7], ids=["pad", "a word"])
def test_features_do_not_depend_on_padding(layout, filler):
    encoder, items = build_small(layout), sentences(20, 7, 13, 1)
    ids, lengths = side_by_side(items, filler)
    together, pooled = encoder(ids, lengths), encoder.features(ids, lengths)
    for row, item in enumerate(items):
        alone = encoder(item[None])
        close(together[row : row + 1, : len(item)], alone)
        close(pooled[row : row + 1], encoder.features(item[None]))
        close(encoder(item[None], torch.tensor([len(item)])), alone)


def test_what_the_student_sees_does_not_depend_on_padding():
    encoder, recipe, items = build_small(), small(), sentences(20, 7, 13)
    ids, lengths = side_by_side(items)
    is_masked = draw_masks(recipe, mix(5, torch.arange(9)), 20, lengths.repeat_interleave(3))
    masks = Masks.with_padding(is_masked, lengths, hidden_tokens(recipe, 20))
    together = encoder.encode(encoder.stem(ids), lengths, masks).tokens
    for row, item in enumerate(items):
        n, rows = len(item), slice(3 * row, 3 * row + 3)
        alone = Masks.with_equal_counts(is_masked[rows, :n], 1, hidden_tokens(recipe, n))
        expected = encoder.encode(encoder.stem(item[None]), None, alone).tokens
        close(together[rows, : expected.shape[1]], expected)


# ------------------------------------------------------------------------------------------ masks


def test_nothing_of_hidden_tokens_reaches_the_student():
    """Hidden words can be exchanged without a change in what the student makes of the rest; visible ones cannot."""
    encoder, recipe, ids = build_small(), small(), sentences(20)[0][None]
    is_masked = draw_masks(recipe, mix(3, torch.arange(1)), 20, None)
    masks = Masks.with_equal_counts(is_masked, 1, hidden_tokens(recipe, 20))

    def seen(words):
        return encoder.encode(encoder.stem(words), None, masks).tokens

    assert torch.equal(seen(ids), seen(torch.where(is_masked, 5, ids)))
    assert not torch.allclose(seen(ids), seen(torch.where(is_masked, ids, 5)))


def test_visible_tokens_keep_their_positions():
    """The same words at other visible places are encoded differently."""
    encoder, ids = build_small(), torch.full((1, 6), 9)
    first, last = torch.tensor([[1, 1, 1, 0, 0, 0]]).bool(), torch.tensor([[0, 0, 0, 1, 1, 1]]).bool()
    views = [
        encoder.encode(encoder.stem(ids), None, Masks.with_equal_counts(is_masked, 1, 3)).tokens
        for is_masked in (first, last)
    ]
    assert not torch.allclose(*views)


def test_data2vec1_hides_tokens_before_positions_are_added():
    """Hidden tokens are alike before their positions and different after."""
    recipe, encoder = small("data2vec1"), build_small("data2vec1")
    objective = Data2Vec1(recipe.objective, encoder, 40, partial(draw_masks, recipe)).double()
    batch, placed = _batch(*side_by_side(sentences(20, 20))), []
    masks, place = objective.draw_masks(batch, 0, "cpu"), encoder.stem.place
    encoder.stem.place = lambda *arguments: placed.append((arguments[0], place(*arguments))) or placed[-1][1]
    objective(batch, masks)
    before, (after, bias) = placed[-1]
    assert bias is None
    assert torch.equal(before[masks.is_masked], objective.mask_token[0].expand(int(masks.count), -1))
    assert torch.equal(before[~masks.is_masked], encoder.stem(batch.inputs)[~masks.is_masked])
    expected = encoder.stem.placing.norm(objective.mask_token[0] + encoder.stem.placing.positions.weight[2:22])
    close(after[masks.is_masked], expected.expand(2, -1, -1)[masks.is_masked])
    with pytest.raises(ValueError, match="full sequences"):
        place(before, None, masks)


# ------------------------------------------------------------------------------------------ training


def _batch(ids, lengths=None):
    numbers = torch.arange(len(ids))
    return Batch(ids, numbers, torch.zeros_like(numbers), update=0, lengths=lengths)


def _objective(layout, **changes):
    recipe, encoder = small(layout), build_small(layout).train()
    draw, config = partial(draw_masks, recipe), recipe.objective.model_copy(update=changes)
    if layout == "data2vec1":
        return Data2Vec1(config, encoder, max_tokens(recipe), draw).double()
    decoder = ConvDecoder(encoder.width, config.decoder, grid=None)
    hidden = partial(hidden_tokens, recipe)
    return Data2Vec2(config, encoder, decoder, max_tokens(recipe), hidden, draw).double()


@LAYOUTS
@pytest.mark.parametrize("padded", [False, True])
def test_every_parameter_learns(layout, padded):
    objective = _objective(layout)
    ids, lengths = side_by_side(sentences(40, 17, 32))
    batch = _batch(ids, lengths if padded else None)
    objective(batch, objective.draw_masks(batch, 0, "cpu")).loss_sum.backward()
    trained = {name: p for name, p in objective.named_parameters() if not name.startswith("teacher.")}
    idle = [name for name, p in trained.items() if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()]
    assert not idle
    assert all(p.grad is None for p in objective.teacher.parameters())


@pytest.mark.parametrize("view", ["whole", "hidden"])
def test_a_batch_with_padding_has_the_loss_of_its_sequences(view):
    """The same masks, targets and predictions as each sequence alone, so the same sum."""
    objective = _objective("data2vec1", teacher_view=view)
    objective.student.eval()
    items = sentences(20, 9, 13)
    batch = _batch(*side_by_side(items))
    together = objective(batch, objective.draw_masks(batch, 0, "cpu")).loss_sum
    alone = []
    for row, item in enumerate(items):
        one = Batch(item[None], batch.sample_ids[row : row + 1], batch.epochs[row : row + 1], 0)
        alone.append(objective(one, objective.draw_masks(one, 0, "cpu")).loss_sum)
    close(together, sum(alone))


def test_layer_drop_skips_blocks_in_training_alone():
    encoder = build_small(layer_drop=0.5)
    local = torch.randn(1, 20, 16, generator=torch.Generator().manual_seed(1)).double()
    assert len(encoder.encode(local, activation="ffn").activations) == 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder.train()
        kept = [float(len(encoder.encode(local, activation="ffn").activations)) for _ in range(200)]
    assert 1.2 < sum(kept) / 200 < 1.8
    assert set(kept) == {0.0, 1.0, 2.0, 3.0}


def test_embeddings_start_like_berts():
    encoder = build_encoder(small(vocab_size=2000, width=64))
    words, positions = encoder.stem.local.words.weight, encoder.stem.local.placing.positions.weight
    assert float(words.std().detach()) == pytest.approx(0.02, rel=0.05)
    assert not words[PAD].any()
    assert not positions[PAD].any()
