"""Speech encoders: sizes and numbers of the reference, padding, masks, gradients."""

from functools import partial

import numpy as np
import pytest
import torch

from d2v.config import parse
from d2v.data.random import fold_in
from d2v.modalities.speech.config import SpeechEncoderConfig, SpeechTrainConfig
from d2v.modalities.speech.encoder import AlibiStem, ConvFeatures, build_encoder
from d2v.modalities.speech.masking import draw_masks, num_masked
from d2v.modalities.speech.modality import Speech
from d2v.models.alibi import alibi_slopes
from d2v.models.masking import Masks
from tests.modalities.sequences import (
    batch_of,
    count_parameters,
    idle_parameters,
    loss_of_each,
    loss_sum,
    objective_over,
    placed,
    published_sizes,
    student_alone_and_in_a_batch,
)

BASE = {
    "encoder": {"width": 768, "depth": 12, "heads": 12},
    "mask": {"kind": "block"},
    "objective": {
        "name": "data2vec2",
        "decoder": {"layers": 4, "width": 384, "kernel": 7, "groups": 16, "input_dropout": 0.1},
        "targets": {"top_k_layers": 8},
        "ema": {"decay_start": 0.999, "decay_end": 0.99999, "anneal_updates": 75_000, "shared_local": True},
    },
    "optimizer": {"lr": 1e-3},
    "batch_size": 1,
    "max_updates": 1,
}
LARGE = BASE | {
    "encoder": {"width": 1024, "depth": 16, "prenet_depth": 8, "heads": 16},
    "objective": BASE["objective"] | {"decoder": {"layers": 4, "width": 768, "kernel": 7, "groups": 16}},
}
FIRST = BASE | {
    "encoder": BASE["encoder"] | {"layout": "data2vec1"},
    "mask": {"kind": "span"},
    "objective": {"name": "data2vec1", "targets": BASE["objective"]["targets"], "ema": BASE["objective"]["ema"]},
}
SMALL = {
    "convs": [(8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 2, 2), (8, 2, 2)],
    "width": 16,
    "depth": 3,
    "heads": 2,
    "position_groups": 4,
}
LAYOUTS = pytest.mark.parametrize("layout", ["data2vec2", "data2vec1"])


def small(layout="data2vec2", **encoder):
    """A small recipe of either version."""
    values = BASE if layout == "data2vec2" else FIRST
    objective = values["objective"] | {"targets": {"top_k_layers": 2}}
    if layout == "data2vec2":
        decoder = {"layers": 2, "width": 8, "kernel": 3, "groups": 2}
        objective = objective | {"decoder": decoder, "masks_per_sample": 2}
    return parse(SpeechTrainConfig, values | {"encoder": SMALL | {"layout": layout} | encoder, "objective": objective})


def build_small(layout="data2vec2", **encoder):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build_encoder(small(layout, **encoder)).double()
        for name, parameter in built.named_parameters():  # off its initialisation, where biases and scales are trivial
            torch.nn.init.normal_(parameter, mean=float("scale" in name or "norm" in name), std=0.3)
    return built.eval()


def waves(*samples, seed=0):
    return [torch.randn(n, generator=torch.Generator().manual_seed(seed + i)).double() for i, n in enumerate(samples)]


def side_by_side(items):
    """(inputs padded with noise rather than zeros, lengths)."""
    lengths = torch.tensor([len(item) for item in items])
    values = torch.full((len(items), int(lengths.max())), 3.0, dtype=torch.float64)
    for row, item in zip(values, items, strict=True):
        row.add_(torch.randn(len(row), generator=torch.Generator().manual_seed(9)))
        row[: len(item)] = item
    return values, lengths


close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------------ sizes


STEM_LENGTHS = {400: 1, 720: 2, 16_000: 49, 32_000: 99, 250_000: 781, 256_000: 799, 320_000: 999}


@pytest.mark.parametrize(("samples", "frames"), STEM_LENGTHS.items())
def test_frames_of_so_many_samples(samples, frames):
    config = SpeechEncoderConfig()
    assert config.frames(samples) == frames
    stem = build_small().stem
    assert stem.num_tokens(torch.empty(1, samples, device="meta")) == frames
    narrow = ConvFeatures(tuple((2, kernel, stride) for _, kernel, stride in config.convs), width=4)
    assert narrow(torch.zeros(1, samples)).shape == (1, frames, 4)


def test_lengths_in_frames():
    stem = build_small().stem
    assert stem.token_lengths(torch.tensor(list(STEM_LENGTHS))).tolist() == list(STEM_LENGTHS.values())
    assert stem.token_lengths(torch.tensor([0, 399, 719])).tolist() == [0, 0, 1]
    assert SpeechEncoderConfig().receptive_samples == 400
    assert SpeechEncoderConfig().frames(399) == 0


@pytest.mark.parametrize(
    ("values", "with_decoder", "without", "averaged"),
    [(BASE, 93_783_308, 93_163_532, 157), (LARGE, 315_184_144, 313_275_408, 301)],
    ids=["base", "large"],
)
def test_sizes_of_the_published_models(values, with_decoder, without, averaged):
    assert published_sizes(Speech(), values) == (with_decoder, without, averaged)


def test_size_of_the_published_data2vec1_model():
    with torch.device("meta"):
        student = build_encoder(parse(SpeechTrainConfig, FIRST))
        mask_token = student.stem.mask_vector()
    assert count_parameters(student) + mask_token.numel() == 93_164_288


@LAYOUTS
def test_flops_are_those_that_torch_counts(layout):
    from torch.utils.flop_counter import FlopCounterMode

    encoder, inputs = build_small(layout), torch.stack(waves(32_000))
    with FlopCounterMode(display=False) as counter:
        encoder(inputs)
    ours = encoder.stem.local_flops(99) + encoder.stem.positions_flops(99) + encoder.flops(99)
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.02)


# ------------------------------------------------------------------------------------------ ALiBi


def test_slopes_of_twelve_heads():
    halves = [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(12).tolist() == torch.tensor([*halves, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]).tolist()


@pytest.mark.goldens
def test_slopes_and_biases_are_the_references(shared_goldens):
    golden = np.load(shared_goldens / "alibi.npz")
    for heads in (1, 2, 3, 4, 6, 8, 12, 16):
        np.testing.assert_allclose(alibi_slopes(heads), golden[f"slopes_h{heads}"], rtol=1e-6)
    for heads, frames in ((4, 10), (12, 7), (16, 12)):
        stem = AlibiStem(SpeechEncoderConfig(width=16 * heads, heads=heads))
        bias = stem._alibi(torch.arange(frames)).detach()
        np.testing.assert_allclose(bias, golden[f"alibi1d_h{heads}_t{frames}"], rtol=1e-6)


@pytest.mark.goldens
def test_bias_of_kept_frames_is_the_references(shared_goldens):
    golden = np.load(shared_goldens / "alibi.npz")
    is_masked = torch.from_numpy(golden["masked_mask"]).bool()
    masks = Masks.with_equal_counts(is_masked, samples=2, num_masked=4)
    stem = build_small(heads=4).stem.float()
    stem.alibi_scale.data.fill_(1.0)
    _, bias = stem.add_positions(torch.zeros(2, 9, 16), None, masks)
    order = torch.from_numpy(golden["masked_ids_keep"]).argsort(dim=1)
    rows, by_row = torch.arange(2)[:, None, None], torch.from_numpy(golden["masked_alibi_b2_h4_t9"]).movedim(1, 3)
    expected = by_row[rows, order[:, :, None], order[:, None]].movedim(3, 1)
    torch.testing.assert_close(bias.detach(), expected, rtol=1e-6, atol=0.0)


def test_kept_frames_are_as_far_apart_as_in_the_whole():
    encoder = build_small()
    masks = Masks.with_equal_counts(torch.tensor([[1, 0, 1, 0, 0, 1, 1, 0]]).bool(), samples=1, num_masked=4)
    _, bias = encoder.stem.add_positions(torch.zeros(1, 8, 16).double(), None, masks)
    kept = torch.tensor([1, 3, 4, 7])
    slopes = alibi_slopes(2).double() * encoder.stem.alibi_scale
    expected = -slopes[:, None, None] * (kept[:, None] - kept).abs()
    torch.testing.assert_close(bias, expected.unsqueeze(0))
    assert bias.shape == (1, 2, 4, 4)


def test_a_negative_scale_counts_as_none():
    stem = build_small().stem
    stem.alibi_scale.data = torch.tensor([-1.0, 2.0]).double()
    bias = stem._alibi(torch.arange(3))
    assert not bias[0].any()
    assert float(bias[1, 0, 2].detach()) == -4.0 * float(alibi_slopes(2)[1])


# ------------------------------------------------------------------------------------------ padding


@LAYOUTS
def test_features_do_not_depend_on_padding(layout):
    encoder, items = build_small(layout), waves(9_000, 4_000, 12_345, 400)
    values, lengths = side_by_side(items)
    together, pooled = encoder(values, lengths), encoder.features(values, lengths)
    for row, item in enumerate(items):
        alone = encoder(item[None])
        frames = alone.shape[1]
        close(together[row : row + 1, :frames], alone)
        close(pooled[row : row + 1], encoder.features(item[None]))
        close(encoder(item[None], torch.tensor([len(item)])), alone)


@LAYOUTS
def test_a_recording_shorter_than_a_frame_does_not_poison_its_batch(layout):
    encoder = build_small(layout).train()
    encoder(*side_by_side(waves(4_000, 200)))[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


@LAYOUTS
def test_the_references_features_do(layout):
    """data2vec 2.0's positions see all that the convolutions made of padding, 1.0's what its first unit spread."""
    items = waves(9_000, 4_000)
    values, lengths = side_by_side(items)
    invariant, reference = build_small(layout), build_small(layout, padding="reference")
    reference.load_state_dict(invariant.state_dict())
    together, frames = reference(values, lengths), 12
    close(together[:1], reference(values[:1]))
    assert float((together[1, :frames] - reference(items[1][None])[0, :frames]).detach().abs().max()) > 1e-3


def test_what_the_student_sees_does_not_depend_on_padding():
    encoder, items = build_small(), waves(9_000, 4_000, 6_000)
    for alone, together in student_alone_and_in_a_batch(Speech(), small(), encoder, items, side_by_side(items)):
        close(together, alone)


# ------------------------------------------------------------------------------------------ masks


def test_nothing_of_hidden_frames_reaches_the_student():
    """What a mask hides can change without a change in what the student makes of the rest."""
    encoder, recipe = build_small(), small()
    local = torch.randn(1, 40, 16, generator=torch.Generator().manual_seed(1)).double()
    is_masked = draw_masks(recipe, fold_in(3, torch.arange(1)), 40, None)
    masks = Masks.with_equal_counts(is_masked, 1, num_masked(recipe, 40))
    changed = torch.where(is_masked.unsqueeze(-1), 100.0, local)
    assert torch.equal(encoder.encode(local, None, masks).tokens, encoder.encode(changed, None, masks).tokens)
    seen = torch.where(is_masked.unsqueeze(-1), local, 100.0)
    assert not torch.allclose(encoder.encode(local, None, masks).tokens, encoder.encode(seen, None, masks).tokens)


def test_every_mask_of_a_sample_has_its_own_view():
    encoder, recipe = build_small(), small()
    local = torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(1)).double()
    is_masked = draw_masks(recipe, fold_in(3, torch.arange(6)), 40, None)
    hidden = num_masked(recipe, 40)
    together = encoder.encode(local, None, Masks.with_equal_counts(is_masked, 2, hidden)).tokens
    for row in range(6):
        alone = Masks.with_equal_counts(is_masked[row : row + 1], 1, hidden)
        expected = encoder.encode(local[row // 3 : row // 3 + 1], None, alone).tokens
        close(together[row : row + 1], expected)


def test_data2vec1_hides_frames_before_positions_are_added():
    """Hidden frames are alike before their positions and different after."""
    recipe, encoder = small("data2vec1"), build_small("data2vec1")
    objective = objective_over(Speech(), recipe, encoder)
    batch = batch_of(side_by_side(waves(9_000, 9_000))[0])
    masks, before, after, bias = placed(objective, batch)
    assert bias is None
    assert torch.equal(before[masks.is_masked], objective.mask_token[0].expand(int(masks.count), -1))
    assert torch.equal(before[~masks.is_masked], encoder.stem(batch.inputs)[~masks.is_masked])
    assert float(after[masks.is_masked].std(dim=0).min().detach()) > 1e-3
    with pytest.raises(ValueError, match="full sequences"):
        encoder.stem.add_positions(before, None, masks)


def test_mask_vectors_start_uniform():
    vector = build_small("data2vec1").stem.mask_vector()
    assert vector.shape == (1, 1, 16)
    assert float(vector.min()) >= 0.0
    assert float(vector.max()) > 0.5


# ------------------------------------------------------------------------------------------ training


@LAYOUTS
@pytest.mark.parametrize("padded", [False, True])
def test_every_parameter_learns(layout, padded):
    objective = objective_over(Speech(), small(layout), build_small(layout).train())
    values, lengths = side_by_side(waves(9_000, 5_000, 8_000))
    assert not idle_parameters(objective, batch_of(values, lengths if padded else None))
    if layout == "data2vec2":
        assert bool(objective.student.stem.alibi_scale.grad.all())


def test_a_batch_with_padding_has_the_loss_of_its_recordings():
    """The same masks, targets and predictions as each recording alone, so the same sum. (Not so for data2vec 2.0, whose
    decoder convolves over the noise that stands in the places of padding.)"""
    objective = objective_over(Speech(), small("data2vec1"), build_small("data2vec1"))
    items = waves(9_000, 5_000, 8_000)
    batch = batch_of(*side_by_side(items))
    torch.testing.assert_close(loss_sum(objective, batch), loss_of_each(objective, batch, items), rtol=1e-9, atol=0.0)


def test_layer_drop_skips_blocks_in_training_alone():
    encoder = build_small(layer_drop=0.5, prenet_depth=2, prenet_layer_drop=0.5, dropout=0.0, attention_dropout=0.0)
    local = torch.randn(1, 20, 16, generator=torch.Generator().manual_seed(1)).double()
    whole = encoder.encode(local, activation="ffn")
    assert len(whole.activations) == 3
    encoder.train()
    runs = []
    for encoder.layer_drop_seed in range(200):
        runs.append(encoder.encode(local, activation="ffn"))
    kept = torch.tensor([float(len(run.activations)) for run in runs])
    assert 1.2 < float(kept.mean()) < 1.8
    assert set(kept.tolist()) == {0.0, 1.0, 2.0, 3.0}
    same = [run for run in runs if torch.equal(run.tokens, whole.tokens)]
    assert 0 < len(same) < 20  # all five blocks: one run in 32


def test_first_features_can_be_told_from_their_neighbours():
    """Random filters follow the phase of a wave: frames of one steady tone look unlike each other."""
    tone = torch.sin(2 * torch.pi * 440.0 * torch.arange(8000) / 16_000)[None]
    layers = tuple((16, kernel, stride) for _, kernel, stride in SpeechEncoderConfig().convs)
    alike = {}
    for spread in (1.0, 0.3, 0.0):
        torch.manual_seed(0)
        features_TD = ConvFeatures(layers, 16, spread)(tone)[0].detach()
        alike[spread] = float(torch.nn.functional.cosine_similarity(features_TD[:-1], features_TD[1:], dim=-1).mean())
    assert alike[1.0] < alike[0.3] < alike[0.0]


def test_the_first_convolution_keeps_its_filters():
    def layers(spread):
        torch.manual_seed(0)
        return ConvFeatures(((4, 10, 5), (4, 3, 2), (8, 2, 2)), 4, spread).layers

    plain, pulled = layers(1.0), layers(0.0)
    assert torch.equal(plain[0].conv.weight, pulled[0].conv.weight)
    for before, after in zip(plain[1:], pulled[1:], strict=True):
        torch.testing.assert_close(
            after.conv.weight, before.conv.weight.mean(-1, keepdim=True).expand_as(after.conv.weight)
        )
