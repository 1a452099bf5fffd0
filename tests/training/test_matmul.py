"""Which library multiplies float32 matrices, and when."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch

from d2v.training import matmul as products
from d2v.training import memory
from d2v.training.matmul import (
    choose_matmul_backend,
    fast_products,
    inference,
    keep_matmul_backend,
    using_matmul_backend,
)
from d2v.training.memory import freed_memory_kept, old_objects_uncollected

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _measured_anew() -> Iterator[None]:
    products._errors.cache_clear()
    yield
    products._errors.cache_clear()


def test_the_setting_ends_with_its_block() -> None:
    before = torch.get_float32_matmul_precision()
    with using_matmul_backend("onednn"):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == before


def test_a_gpu_is_left_alone() -> None:
    cuda = torch.device("cuda")
    assert choose_matmul_backend("auto", "fp32", cuda) == ("blas", "")
    assert choose_matmul_backend("onednn", "fp32", cuda) == ("blas", "")
    assert keep_matmul_backend("onednn", cuda) == ("blas", "")


def test_bf16_has_nothing_to_choose_and_a_recipe_can_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_errors", lambda: pytest.fail("nothing is measured"))
    assert choose_matmul_backend("auto", "bf16", CPU) == ("blas", "")
    assert [choose_matmul_backend(name, "fp32", CPU)[0] for name in ("blas", "onednn")] == ["blas", "onednn"]
    monkeypatch.setattr(products, "_can_switch", lambda: False)
    assert choose_matmul_backend("onednn", "fp32", CPU)[0] == "blas"


def test_blas_leaves_what_the_program_has_set() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with using_matmul_backend("blas"):
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_what_was_set_before_comes_back_when_the_last_thread_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_onednn_pays", lambda: True)
    like = torch.zeros(1)
    first, second = fast_products(like), fast_products(like)
    with first:
        second.__enter__()
    assert torch.get_float32_matmul_precision() == "medium"
    second.__exit__(None, None, None)
    assert torch.get_float32_matmul_precision() == "highest"
    with inference(like):
        assert torch.is_inference_mode_enabled()
    with fast_products(like.bfloat16()):
        assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("has_mkl", "processor", "choice"),
    [
        (True, "vendor_id\t: AuthenticAMD", "onednn"),
        (True, "Intel64 Family 6 Model 85 Stepping 4, GenuineIntel", "blas"),
        (False, "AuthenticAMD", "blas"),
    ],
)
def test_only_where_torchs_own_library_is_slow(
    monkeypatch: pytest.MonkeyPatch, has_mkl: bool, processor: str, choice: str
) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: has_mkl)
    monkeypatch.setattr(products, "_processor", lambda: processor)
    monkeypatch.setattr(products, "_errors", _errors_of(8e-7))
    assert choose_matmul_backend("auto", "fp32", CPU)[0] == choice


def _errors_of(onednn: float) -> Callable[[], tuple[float, float]]:
    return cache(lambda: (4e-7, onednn))


def test_the_processor_names_its_maker() -> None:
    assert products._processor.__wrapped__().strip()


def test_what_is_less_exact_is_not_taken_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_blas_is_slow", lambda: True)
    monkeypatch.setattr(products, "_errors", _errors_of(4e-3))
    assert choose_matmul_backend("auto", "fp32", CPU)[0] == "blas"
    assert "less exact" in choose_matmul_backend("auto", "fp32", CPU)[1]
    kept, why = keep_matmul_backend("onednn", CPU)
    assert kept == "blas"
    assert "less exact here" in why


def test_this_processors_choice_is_as_exact_as_torchs_own() -> None:
    library, reason = choose_matmul_backend("auto", "fp32", CPU)
    x, weight = torch.randn(300, 400), torch.randn(500, 400)
    exact = x.double() @ weight.double().t()
    with using_matmul_backend(library):
        error = float((x @ weight.t() - exact).abs().max() / exact.abs().max())
    assert error < 5e-6, reason
    assert keep_matmul_backend("blas", CPU)[0] == "blas"
    assert keep_matmul_backend(library, CPU)[0] == library


def test_memory_is_kept_inside_and_given_back_after(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = memory._glibc()
    if libc is None:
        pytest.skip("no glibc")

    def resident() -> float:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096 / 2**20

    with freed_memory_kept(CPU):
        with freed_memory_kept(CPU):
            large = torch.ones(40 * 2**18)
        full = resident()
        del large
        kept = resident()
    assert kept > full - 10.0
    assert resident() < full - 30.0
    monkeypatch.setenv("MALLOC_TOP_PAD_", "0")
    monkeypatch.setattr(memory, "_set", lambda *_: pytest.fail("a user's own settings stay"))
    with freed_memory_kept(CPU):
        pass


def test_old_objects_are_not_collected_and_new_ones_are() -> None:
    class Loop:
        def __init__(self) -> None:
            self.itself = self

    before = gc.get_freeze_count()
    with old_objects_uncollected():
        assert gc.get_freeze_count() > before + 10_000
        gone = weakref.ref(Loop())
        gc.collect()
        assert gone() is None
    assert gc.get_freeze_count() == 0


MANY_SHAPES = """
import d2v
import torch

with torch.no_grad():
    for tokens in [*range(1, 601), 1]:
        torch.nn.functional.conv2d(torch.zeros(2, 16, 16, 4 + tokens), torch.zeros(16, 16, 3, 3))
"""


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
@pytest.mark.parametrize(("given", "compiled"), [(None, 601), ("4096", 600)])
def test_few_compiled_kernels_are_kept_where_shapes_differ(given: str | None, compiled: int) -> None:
    """With 512 kept, the first of 600 shapes is compiled again."""
    chosen = {} if given is None else {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": given}
    rest = {name: value for name, value in os.environ.items() if "ONEDNN" not in name}
    told = rest | chosen | {"ONEDNN_VERBOSE": "profile_create"}
    done = subprocess.run([sys.executable, "-c", MANY_SHAPES], env=told, capture_output=True, text=True, check=True)
    assert done.stdout.count("create:cache_miss,cpu,convolution") == compiled
