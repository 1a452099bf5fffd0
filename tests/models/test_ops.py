"""d2v.models.ops: the same values and gradients as torch's own operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from d2v.models.ops import (
    Dropout,
    GeluLinear,
    LayerNorm,
    LayerNormGelu,
    Linear,
    StridedConv1d,
    TokenConv1d,
    TokenConv2d,
    add_norm_gelu,
    attention,
    convolution,
    dropout,
    linear,
    norm_gelu,
)
from d2v.models.ops import norm as norm_module
from d2v.models.ops.softmax import softmax, softmax_backward
from d2v.training.matmul import MatmulBackend, using_matmul_backend

DOUBLE = {"rtol": 1e-10, "atol": 1e-10}
BF16 = {"rtol": 2e-2, "atol": 2e-2}


def _random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _values_and_gradients(call: Callable[[], Tensor], *leaves: Tensor) -> list[Tensor]:
    for leaf in leaves:
        leaf.requires_grad_()
        leaf.grad = None
    y = call()
    grads = torch.autograd.grad((y * _random(*y.shape, dtype=y.dtype, seed=9)).sum(), leaves)
    return [y, *grads]


def _check_same(ours: Callable[[], Tensor], theirs: Callable[[], Tensor], *leaves: Tensor, **close: float) -> None:
    for own, other in zip(_values_and_gradients(ours, *leaves), _values_and_gradients(theirs, *leaves), strict=True):
        assert own.dtype == other.dtype
        torch.testing.assert_close(own, other, **close)


@pytest.mark.parametrize(("kernel", "groups"), [(3, 1), (7, 4), (4, 2)])
def test_token_convolutions_are_convolutions(kernel: int, groups: int) -> None:
    conv = TokenConv1d(8, 12, kernel, groups).double()
    x = _random(3, 11, 8)
    reference = nn.Conv1d.forward
    _check_same(
        lambda: conv(x), lambda: reference(conv, x.transpose(1, 2)).transpose(1, 2), x, *conv.parameters(), **DOUBLE
    )
    plane = TokenConv2d(8, 12, kernel, groups).double()
    grid = _random(3, 5, 6, 8)
    _check_same(
        lambda: plane(grid),
        lambda: nn.Conv2d.forward(plane, grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1),
        grid,
        *plane.parameters(),
        **DOUBLE,
    )


@pytest.mark.parametrize("large", [1, 2**24])
@pytest.mark.parametrize("positions", [10, 11, 12, 13, 31])
@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (3, 2), (2, 2), (5, 3), (7, 1), (8, 3)])
def test_strided_convolutions_are_convolutions(
    kernel: int, stride: int, positions: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "_LARGE", large)
    conv = StridedConv1d(4, 6, kernel, stride).double()
    x = _random(2, positions, 4)
    _check_same(
        lambda: conv(x),
        lambda: nn.Conv1d.forward(conv, x.transpose(1, 2)).transpose(1, 2),
        x,
        *conv.parameters(),
        **DOUBLE,
    )


def test_autocast_leaves_a_strided_convolution_in_float64() -> None:
    conv, x = StridedConv1d(4, 6, 3, 2).double(), _random(2, 9, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(x).dtype == torch.float64


def test_gradients_of_a_strided_convolution_in_bf16_do_not_get_worse_with_the_batch() -> None:
    conv = StridedConv1d(16, 16, 3, 2)
    x = _random(256, 41, 16, dtype=torch.float32)
    errors = []
    for rows in (8, 256):
        (exact,) = torch.autograd.grad(conv(x[:rows]).square().sum(), conv.weight)
        with torch.autocast("cpu", torch.bfloat16):
            (rounded,) = torch.autograd.grad(conv(x[:rows]).float().square().sum(), conv.weight)
        errors.append(float((rounded - exact).norm() / exact.norm()))
    assert errors[1] < 1.5 * errors[0] < 0.03


def test_a_waveform_shorter_than_a_filter_is_refused_in_training_too() -> None:
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        StridedConv1d(1, 4, 10, 5)(torch.zeros(2, 9, 1))


def test_norm_and_gelu() -> None:
    x = _random(3, 5, 8)
    norm = LayerNormGelu(8, eps=1e-5).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(_random(8, seed=3))
    _check_same(lambda: norm(x), lambda: F.gelu(nn.LayerNorm.forward(norm, x)), x, *norm.parameters(), **DOUBLE)
    _check_same(lambda: norm_gelu(x), lambda: F.gelu(F.layer_norm(x, (8,))), x, **DOUBLE)
    assert norm_gelu(x[:0]).shape == (0, 5, 8)


@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias")])
@pytest.mark.parametrize("kind", [LayerNorm, LayerNormGelu])
def test_norms_of_narrow_inputs(kind: type[nn.LayerNorm], frozen: tuple[str, ...]) -> None:
    """With weights in float32, as under autocast, and without a bias or any."""
    narrow = _random(3, 5, 8, dtype=torch.bfloat16)
    for norm in (kind(8), kind(8, bias=False), kind(8, elementwise_affine=False), kind(8).bfloat16()):
        leaves = [p for name, p in norm.named_parameters() if name not in frozen]
        for name, parameter in norm.named_parameters():
            parameter.requires_grad_(name not in frozen)
            parameter.data.copy_(_random(8, seed=3))
        after = F.gelu if kind is LayerNormGelu else nn.Identity()
        _check_same(
            lambda n=norm: n(narrow),
            lambda n=norm, a=after: a(nn.LayerNorm.forward(n, narrow)),
            narrow,
            *leaves,
            **BF16,
        )
        assert norm(narrow[:0]).shape == (0, 5, 8)


@pytest.mark.parametrize("kind", [LayerNorm, LayerNormGelu])
def test_gradients_of_a_norms_weights_in_bf16_are_summed_in_float32(
    kind: type[nn.LayerNorm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs and gradients that bfloat16 holds exactly, so that only the sums over 4,096 rows, in three parts, can be
    wrong."""
    monkeypatch.setitem(norm_module._PART_ELEMENTS, "cpu", 1800 * 32)
    x, grad = _random(4096, 32, dtype=torch.bfloat16), _random(4096, 32, dtype=torch.bfloat16, seed=1)
    narrow, exact = kind(32), kind(32).double()
    for norm, dtype in ((narrow, torch.bfloat16), (exact, torch.float64)):
        norm(x.to(dtype)).backward(grad.to(dtype))
    for own, true in zip(narrow.parameters(), exact.parameters(), strict=True):
        assert own.grad is not None
        assert true.grad is not None
        assert (own.grad - true.grad).norm() < 1e-5 * true.grad.norm()


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("used", [(True, True), (True, False), (False, True)])
def test_a_sum_with_norm_and_gelu_under_autocast(
    used: tuple[bool, bool], parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a stream in float32 and a convolution's outputs in bfloat16: the sum, and the sum rounded."""
    monkeypatch.setitem(norm_module._PART_ELEMENTS, "cpu", 15 * 8 // parts)
    x, y = _random(3, 5, 8, dtype=torch.float32), _random(3, 5, 8, dtype=torch.bfloat16, seed=1)

    def of_both(total: Tensor, rounded: Tensor) -> Tensor:
        return used[0] * total + used[1] * rounded.square()

    def plain() -> Tensor:
        total = x + F.gelu(F.layer_norm(y.float(), (8,)))
        return of_both(total, total.bfloat16())

    with torch.autocast("cpu", torch.bfloat16):
        total, rounded = add_norm_gelu(x, y, 1e-5)
        assert (total.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
        assert torch.equal(total.bfloat16(), rounded)
        _check_same(lambda: of_both(*add_norm_gelu(x, y, 1e-5)), plain, x, y, **BF16)


def test_a_sum_with_norm_and_gelu_in_one_type() -> None:
    x, y = _random(3, 5, 8), _random(3, 5, 8, seed=1)
    for number in (0, 1):
        _check_same(
            lambda n=number: add_norm_gelu(x, y, 1e-5)[n], lambda: x + F.gelu(F.layer_norm(y, (8,))), x, y, **DOUBLE
        )


class _Called(TorchDispatchMode):
    """Notes the names of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, called: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(called))
        return called(*args, **(kwargs or {}))


ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")


@ONEDNN
@pytest.mark.parametrize("then_gelu", [False, True])
@pytest.mark.parametrize("backend", ["blas", "onednn"])
def test_a_linear_layer_whose_bias_is_a_part_of_the_product(backend: MatmulBackend, then_gelu: bool) -> None:
    """Only where oneDNN multiplies, with the results of torch's own."""
    narrow = [_random(*shape, dtype=torch.float32) for shape in ((3, 5, 32), (48, 32), (48,))]

    def of(leaves: list[Tensor]) -> list[Tensor]:
        y = linear(*[leaf.requires_grad_() for leaf in leaves], then_gelu=then_gelu)
        return [y, *torch.autograd.grad(y.sin().sum(), leaves)]

    with using_matmul_backend(backend):
        true, own = of([leaf.detach().double() for leaf in narrow]), of(narrow)
        with torch.no_grad(), _Called() as called:
            own.append(linear(*narrow, then_gelu=then_gelu))
    for one, exact in zip(own, [*true, true[0]], strict=True):
        assert (one - exact).norm() < 1e-5 * exact.norm()
    assert ("mkldnn._linear_pointwise.default" in called.names) == (backend == "onednn")


def test_a_linear_layer_under_autocast() -> None:
    x, weight, bias = (_random(*shape, dtype=torch.float32) for shape in ((3, 5, 32), (48, 32), (48,)))
    with torch.autocast("cpu", torch.bfloat16):
        _check_same(lambda: linear(x, weight, bias), lambda: F.linear(x, weight, bias), x, weight, bias, **BF16)
        assert linear(x[:0], weight, bias).shape == (0, 5, 48)
        assert linear(x, weight, None).dtype == torch.bfloat16


@pytest.mark.parametrize("frozen", [(), ("weight",), ("weight", "bias")])
def test_gelu_and_a_linear_layer(frozen: tuple[str, ...]) -> None:
    layer = GeluLinear(8, 6).double()
    for name in frozen:
        layer.get_parameter(name).requires_grad_(False)
    x = _random(3, 5, 8)
    leaves = [p for name, p in layer.named_parameters() if name not in frozen]
    _check_same(lambda: layer(x), lambda: nn.Linear.forward(layer, F.gelu(x)), x, *leaves, **DOUBLE)


def test_gelu_and_a_linear_layer_under_autocast() -> None:
    layer, before = GeluLinear(32, 16), nn.Linear(32, 32)
    x = _random(4, 7, 32, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        _check_same(
            lambda: layer(before(x)),
            lambda: nn.Linear.forward(layer, F.gelu(before(x))),
            x,
            *layer.parameters(),
            *before.parameters(),
            **BF16,
        )


@pytest.mark.parametrize("of_gelu", [False, True])
def test_linear_layers_of_a_single_vector_and_of_float64(of_gelu: bool) -> None:
    """Autocast leaves float64 as it is, in torch's layers, too."""
    layer = (GeluLinear if of_gelu else Linear)(8, 6)
    for dtype in (torch.float32, torch.float64):
        x = _random(8, dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float64):
            _check_same(
                lambda x=x: layer.to(x.dtype)(x),
                lambda x=x: nn.Linear.forward(layer, F.gelu(x) if of_gelu else x),
                x,
                *layer.to(dtype).parameters(),
                rtol=1e-5,
                atol=1e-6,
            )


def _torch_attention(qkv: Tensor, heads: int, bias: Tensor | None) -> Tensor:
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("shape", [None, (2, 3, 5, 5), (3, 5, 5), (2, 1, 1, 5)])
def test_attention(shape: tuple[int, ...] | None) -> None:
    qkv = _random(2, 5, 3 * 12)
    bias = None if shape is None else _random(*shape, seed=4)
    leaves = [qkv] if bias is None else [qkv, bias]
    _check_same(lambda: attention(qkv, 3, bias), lambda: _torch_attention(qkv, 3, bias), *leaves, **DOUBLE)


def test_attention_of_nothing() -> None:
    assert attention(torch.zeros(0, 5, 24), 2).shape == (0, 5, 8)


def test_attention_of_rows_with_padding() -> None:
    qkv, bias = _random(2, 5, 3 * 12), _random(2, 3, 5, 5, seed=4)
    bias[1, :, :, 3:] = -torch.inf
    _check_same(lambda: attention(qkv, 3, bias), lambda: _torch_attention(qkv, 3, bias), qkv, **DOUBLE)


def test_attention_drops_all() -> None:
    qkv = _random(2, 5, 24)
    (gradient,) = _values_and_gradients(lambda: attention(qkv, 2, dropout=1.0), qkv)[1:]
    assert not attention(qkv, 2, dropout=1.0).any()
    assert not gradient.any()


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("tokens", [9, 200])
def test_attention_in_bf16(tokens: int, biased: bool) -> None:
    """No further from float64 than a few roundings of bfloat16, which the fused kernel has fewer of."""
    narrow = [_random(2, tokens, 3 * 16, dtype=torch.bfloat16)]
    if biased:
        narrow.append(_random(1, 2, tokens, tokens, dtype=torch.bfloat16, seed=4))
    wide, grad = [leaf.double() for leaf in narrow], _random(2, tokens, 16, dtype=torch.bfloat16, seed=9)

    def of(call: Callable[..., Tensor], leaves: list[Tensor]) -> list[Tensor]:
        y = call(leaves[0].requires_grad_(), 2, leaves[1].requires_grad_() if biased else None)
        return [y, *torch.autograd.grad(y, leaves, grad.to(y.dtype))]

    for own, true in zip(of(attention, narrow), of(_torch_attention, wide), strict=True):
        assert own.dtype == torch.bfloat16
        assert (own - true).norm() < 0.015 * true.norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 13, 16, 20, 40, 70])
def test_softmax_of_rows_of_any_length_is_rounded_once(length: int, dtype: torch.dtype) -> None:
    logits, grad = (_random(6, 3, length, dtype=dtype, seed=seed) for seed in (1, 2))
    logits[0, 0, 1:] = -torch.inf
    wide = logits.double().requires_grad_()
    true = wide.softmax(dim=-1)
    rounding = {"rtol": 4.0 * torch.finfo(dtype).eps, "atol": torch.finfo(dtype).eps}
    weights = softmax(logits)
    assert weights.dtype == dtype
    assert weights.is_contiguous()
    torch.testing.assert_close(weights.double(), true.detach(), **rounding)
    kept = weights.double()
    expected = kept * (grad.double() - (grad.double() * kept).sum(dim=-1, keepdim=True))
    dlogits = softmax_backward(grad, weights)
    assert dlogits.dtype == dtype
    assert dlogits.is_contiguous()
    torch.testing.assert_close(dlogits.double(), expected, **rounding)


def test_attention_that_drops_weights_is_that_of_the_weights_it_kept() -> None:
    qkv = _random(2, 6, 3 * 8).requires_grad_()
    torch.manual_seed(5)
    y = attention(qkv, 2, dropout=0.4)
    ours = torch.autograd.grad(y.square().sum(), qkv)[0]
    torch.manual_seed(5)
    q, k, v = qkv.unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / 2.0).softmax(-1).flatten(0, 1)
    expected = (dropout(weights, 0.4) @ v.flatten(0, 1)).unflatten(0, (2, 2)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(y, expected, **DOUBLE)
    torch.testing.assert_close(ours, torch.autograd.grad(expected.square().sum(), qkv)[0], **DOUBLE)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.999])
def test_dropout_drops_as_many_as_it_should_and_keeps_the_mean(rate: float) -> None:
    n = 1_000_001
    x = torch.ones(n, dtype=torch.float64).requires_grad_()
    torch.manual_seed(0)
    y = dropout(x, rate)
    dropped = float((y == 0.0).double().mean())
    assert abs(dropped - rate) < 5.0 * (rate * (1.0 - rate) / n) ** 0.5 + 2.0**-16
    values = y[y != 0.0].detach().unique()
    assert values.tolist() == [pytest.approx(1.0 / (1.0 - rate), rel=2.0**-15 / (1.0 - rate))]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y.detach())
    neighbours = (y[:-1] == 0.0) & (y[1:] == 0.0)
    assert abs(float(neighbours.double().mean()) - rate**2) < 5.0 * rate / n**0.5


def test_dropout_follows_the_generator_and_rests_in_evaluation() -> None:
    x = torch.ones(1000)
    layer = Dropout(0.3)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert layer.eval()(x) is x
    assert not dropout(x, 1.0).any()
