"""Text encoders: sizes of the reference, padding, masks, gradients."""

from functools import partial

import pytest
import torch

from d2v.config import parse
from d2v.data.random import fold_in
from d2v.modalities.text.config import TextTrainConfig
from d2v.modalities.text.encoder import PAD, build_encoder
from d2v.modalities.text.masking import draw_masks, num_masked
from d2v.modalities.text.modality import Text
from d2v.models.masking import Masks
from tests.modalities.sequences import (
    batch_of,
    idle_parameters,
    loss_of_each,
    loss_sum,
    objective_over,
    placed,
    published_sizes,
    student_alone_and_in_a_batch,
)

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


def small(layout="data2vec2", **encoder):
    """A small recipe of either version."""
    values = BASE if layout == "data2vec2" else FIRST
    objective = values["objective"] | {"targets": values["objective"]["targets"] | {"top_k_layers": 2}}
    if layout == "data2vec2":
        objective |= {"decoder": DECODER | {"layers": 2, "width": 8}, "masks_per_sample": 2}
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


@pytest.mark.parametrize(
    ("values", "with_decoder", "without", "averaged"),
    [(BASE, 152_961_792, 124_054_272, 144), (LARGE, 385_379_584, 354_309_120, 288)],
    ids=["base", "large"],
)
def test_sizes_of_the_published_models(values, with_decoder, without, averaged):
    assert published_sizes(Text(), values) == (with_decoder, without, averaged)


@LAYOUTS
def test_tokens_and_flops(layout):
    from torch.utils.flop_counter import FlopCounterMode

    encoder, ids = build_small(layout), side_by_side(sentences(20, 12))[0]
    assert encoder.stem.num_tokens(ids) == 20
    assert encoder.stem.token_lengths(torch.tensor([20, 12])).tolist() == [20, 12]
    with FlopCounterMode(display=False) as counter:
        encoder(ids)
    ours = encoder.stem.local_flops(20) + encoder.stem.positions_flops(20) + encoder.flops(20)
    assert 2 * ours == pytest.approx(counter.get_total_flops(), rel=1e-6)


@LAYOUTS
def test_positions_count_from_the_row_after_padding(layout):
    stem = build_small(layout).stem
    placing = stem.local.placing if layout == "data2vec2" else stem.placing
    ids = sentences(7)[0][None]
    expected = placing.norm(stem.local.words.weight[ids] + placing.positions.weight[2:9])
    close(stem.add_positions(stem(ids), None, None)[0], expected)


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
    encoder, items = build_small(), sentences(20, 7, 13)
    for alone, together in student_alone_and_in_a_batch(Text(), small(), encoder, items, side_by_side(items)):
        close(together, alone)


# ------------------------------------------------------------------------------------------ masks


def test_nothing_of_hidden_tokens_reaches_the_student():
    """Hidden words can be exchanged without a change in what the student makes of the rest; visible ones cannot."""
    encoder, recipe, ids = build_small(), small(), sentences(20)[0][None]
    is_masked = draw_masks(recipe, fold_in(3, torch.arange(1)), 20, None)
    masks = Masks.with_equal_counts(is_masked, 1, num_masked(recipe, 20))

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
    objective = objective_over(Text(), recipe, encoder)
    batch = batch_of(*side_by_side(sentences(20, 20)))
    masks, before, after, bias = placed(objective, batch)
    assert bias is None
    assert torch.equal(before[masks.is_masked], objective.mask_token[0].expand(int(masks.count), -1))
    assert torch.equal(before[~masks.is_masked], encoder.stem(batch.inputs)[~masks.is_masked])
    expected = encoder.stem.placing.norm(objective.mask_token[0] + encoder.stem.placing.positions.weight[2:22])
    close(after[masks.is_masked], expected.expand(2, -1, -1)[masks.is_masked])
    with pytest.raises(ValueError, match="full sequences"):
        encoder.stem.add_positions(before, None, masks)


# ------------------------------------------------------------------------------------------ training


@LAYOUTS
@pytest.mark.parametrize("padded", [False, True])
def test_every_parameter_learns(layout, padded):
    objective = objective_over(Text(), small(layout), build_small(layout).train())
    ids, lengths = side_by_side(sentences(40, 17, 32))
    assert not idle_parameters(objective, batch_of(ids, lengths if padded else None))


@pytest.mark.parametrize("view", ["whole", "hidden"])
def test_a_batch_with_padding_has_the_loss_of_its_sequences(view):
    """The same masks, targets and predictions as each sequence alone, so the same sum."""
    objective = objective_over(Text(), small("data2vec1"), build_small("data2vec1"), teacher_view=view)
    items = sentences(20, 9, 13)
    batch = batch_of(*side_by_side(items))
    close(loss_sum(objective, batch), loss_of_each(objective, batch, items))


def test_layer_drop_skips_blocks_in_training_alone():
    encoder = build_small(layer_drop=0.5)
    local = torch.randn(1, 20, 16, generator=torch.Generator().manual_seed(1)).double()
    assert len(encoder.encode(local, activation="ffn").activations) == 3
    encoder.train()
    kept = []
    for encoder.layer_drop_seed in range(200):
        kept.append(float(len(encoder.encode(local, activation="ffn").activations)))
    assert 1.2 < sum(kept) / 200 < 1.8
    assert set(kept) == {0.0, 1.0, 2.0, 3.0}


def test_embeddings_start_like_berts():
    encoder = build_encoder(small(vocab_size=2000, width=64))
    words, positions = encoder.stem.local.words.weight, encoder.stem.local.placing.positions.weight
    assert float(words.std().detach()) == pytest.approx(0.02, rel=0.05)
    assert not words[PAD].any()
    assert not positions[PAD].any()


def test_words_and_positions_start_with_spreads_of_their_own() -> None:
    small = {"vocab_size": 500, "max_tokens": 300, "width": 32, "depth": 1, "heads": 2}
    made = {}
    for name, stds in {"papers": {}, "own": {"word_std": 1.0, "position_std": 0.1}}.items():
        objective = BASE["objective"] | {"targets": {"top_k_layers": 1}}
        torch.manual_seed(0)
        stem = build_encoder(parse(TextTrainConfig, BASE | {"objective": objective, "encoder": small | stds})).stem
        made[name] = (stem.local.words.weight.detach(), stem.local.placing.positions.weight.detach())
    for number, std in enumerate((1.0, 0.1)):
        own, papers = made["own"][number], made["papers"][number]
        torch.testing.assert_close(own, papers * std / 0.02)  # the same draws
        assert float(papers.std()) == pytest.approx(0.02, rel=0.05)
        assert (own[PAD] == 0).all()
