"""How many of the kernels that oneDNN compiles for shapes a training process keeps."""

from __future__ import annotations

import os
from collections.abc import Collection

import d2v

MORE_KERNELS = "1024"
"""What oneDNN keeps by itself."""
_SHAPES = range(6, 21)
"""Of batches, for which 512 kernels are too few and 1,024 nearly enough: a training compiles 60 to 100 for a shape."""


def keep_kernels_of(shapes: Collection[object]) -> None:
    """Let oneDNN keep 1,024 kernels for a training whose batches have six to twenty shapes: each comes back, and a
    kernel costs more to compile again than to keep. Where shapes are more they do not come back, and memory would grow.

    oneDNN reads the number at the first product of the process, so this comes before it; later it changes nothing. What
    the environment said before `import d2v` stays.

    Args:
        shapes: of the batches of an epoch.
    """
    are_ours = d2v.KERNELS_CHOSEN in os.environ and os.environ.get(d2v.KERNELS) == d2v.FEW_KERNELS
    if are_ours and len(set(shapes)) in _SHAPES:
        os.environ[d2v.KERNELS] = MORE_KERNELS
