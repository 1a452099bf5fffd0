import json

import numpy as np
import pytest
import torch

from d2v.config import DecoderConfig
from d2v.models import blocks
from d2v.models.blocks import DropPath, PostNormBlock, PreNormBlock
from d2v.models.decoders import ConvDecoder

CONV_CASES = ("dec1d_audio", "dec1d_samedim_residual", "dec1d_text", "dec1d_evenkernel", "dec2d_base", "dec2d_large")


@pytest.mark.goldens
@pytest.mark.parametrize("case", [*CONV_CASES, "dec2d_even"])
def test_conv_decoders_equal_the_references(case, shared_goldens):
    golden = np.load(shared_goldens / "decoders.npz")
    stored = json.loads((shared_goldens / "decoders.config.json").read_text())[case]
    names = {"decoder_dim": "width", "decoder_groups": "groups", "decoder_kernel": "kernel", "decoder_layers": "layers"}
    dropped = ("add_positions_masked", "add_positions_all")
    config = {names.get(k, k.removeprefix("decoder_")): v for k, v in stored["decoder_cfg"].items() if k not in dropped}
    _, tokens, width = stored["shape"]
    grid = (4, 4) if case.startswith("dec2d") else (tokens,)
    decoder = ConvDecoder(width, DecoderConfig(**config), grid if len(grid) == 2 else None).double().eval()
    decoder.load_state_dict(_decoder_state(golden, case))
    x = torch.from_numpy(golden[f"{case}:in"]).requires_grad_()
    y = decoder(x)
    (y * torch.from_numpy(golden[f"{case}:w"])).sum().backward()
    np.testing.assert_allclose(y.detach(), golden[f"{case}:out"], atol=1e-10)
    np.testing.assert_allclose(x.grad, golden[f"{case}:gin"], atol=1e-10)


def _decoder_state(golden, case):
    state = {}
    for name in (n for n in golden.files if n.startswith(f"{case}:p:")):
        key = name.removeprefix(f"{case}:p:")
        parts = key.split(".")
        ours = f"layers.{parts[1]}.conv.{parts[3]}" if parts[0] == "blocks" else None
        ours = ours or (f"projection.0.{parts[1]}" if len(parts) == 2 else f"projection.{parts[1]}.{parts[2]}")
        state[ours] = torch.from_numpy(golden[name]).double()
    return state


@pytest.mark.goldens
def test_post_norm_block_equals_the_references(shared_goldens):
    golden = np.load(shared_goldens / "decoders.npz")
    block = PostNormBlock(16, 4, 4.0, 1e-5).double().eval()
    prefix = "block_postln:p:"
    block.load_state_dict(
        {n.removeprefix(prefix): torch.from_numpy(golden[n]).double() for n in golden.files if n.startswith(prefix)}
    )
    bias = torch.from_numpy(golden["block_postln:bias"])
    padding = torch.from_numpy(golden["block_postln:pad"]).bool()
    bias = bias.masked_fill(padding[:, None, None, :], float("-inf"))
    x, ffn = block(torch.from_numpy(golden["block_postln:in"]), bias)
    np.testing.assert_allclose(x.detach(), golden["block_postln:out"], atol=1e-10)
    np.testing.assert_allclose(ffn.detach(), golden["block_postln:target"], atol=1e-10)


@pytest.mark.parametrize("kind", [PostNormBlock, PreNormBlock])
def test_plain_and_fused_attention_agree(kind, monkeypatch):
    torch.manual_seed(0)
    block = kind(32, 4, 4.0, 1e-6).eval()
    x, bias = torch.randn(3, 13, 32), torch.randn(4, 13, 13)
    plain, _ = block(x, bias)
    monkeypatch.setattr(blocks, "PLAIN_ATTENTION_TOKENS", 0)
    fused, _ = block(x, bias)
    torch.testing.assert_close(plain, fused, atol=1e-5, rtol=1e-5)


def test_pre_norm_block_keeps_its_residual():
    """The reference's pre-norm block loses the skip connection around the MLP; ours is identity at scale zero."""
    block = PreNormBlock(16, 2, 4.0, 1e-6, layer_scale_init=1e-9)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(block(x)[0], x, atol=1e-6, rtol=0)


def test_drop_path_drops_whole_rows_and_keeps_the_mean():
    torch.manual_seed(0)
    y = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    per_row = y.flatten(1)
    torch.testing.assert_close(per_row.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert (per_row.min(1).values == per_row.max(1).values).all()
    assert float(y.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(DropPath(0.25).eval()(y), y)
