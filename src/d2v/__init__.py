"""d2v: data2vec 1.0 and 2.0, pretrained, probed, tracked and versioned."""

from __future__ import annotations

import importlib
import os
from typing import Any

from d2v import moved

__version__ = "0.1.0"

# Read when torch is first imported. OpenMP's threads wait for one another by spinning; beside another busy process
# that makes a step up to 15 times slower, as each waits for one that is not running. A short spin costs nothing
# measurable on an idle machine.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# Read at the first product. oneDNN keeps compiled kernels, by default 1,024 of them. Where lengths differ from batch to
# batch, so do shapes, and it keeps half a gigabyte that no one asks for again. A training takes 60 to 100 for a
# shape; where these are few, `d2v.training.kernels` has more of them kept. The other variable says, to processes that
# are started from here too, that no one else has chosen the number.
KERNELS, KERNELS_CHOSEN, FEW_KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "D2V_CHOSE_ONEDNN_KERNELS", "512"
if KERNELS not in os.environ:
    os.environ |= {KERNELS: FEW_KERNELS, KERNELS_CHOSEN: "1"}

moved.install()


_LATE = {"Model": "load", "load": "load", "load_aligned": "aligned"}
"""Name -> module of `d2v.interchange`."""


def __getattr__(name: str) -> Any:
    """`d2v.load`, `d2v.load_aligned` and `d2v.Model` are imported when they are first used: with them come torch and
    seconds. By their names, as this module lies below all layers and `d2v.interchange` above most."""
    if name not in _LATE:
        raise AttributeError(f"module 'd2v' has no attribute {name!r}")
    return getattr(importlib.import_module(f"d2v.interchange.{_LATE[name]}"), name)
