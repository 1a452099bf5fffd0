"""What all sources of weights share: names that wrappers have changed, and values that are no numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from d2v.errors import CheckpointError

_WRAPPERS = re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PARALLEL = "module."
SHOWN = 5
"""Names that a message lists."""


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names that weights had before a program wrapped their model: `_orig_mod.` of torch.compile, FSDP's and
    activation checkpointing's parts wherever they stand, and `module.` of data parallelism where all names begin so.

    Raises:
        CheckpointError: two weights get one name.
    """
    names = {name: _WRAPPERS.sub(r"\1", name) for name in state}
    while names and all(name.startswith(_PARALLEL) for name in names.values()):
        names = {name: new.removeprefix(_PARALLEL) for name, new in names.items()}
    if len(set(names.values())) < len(names):
        twice = next(new for name, new in names.items() if new != name and new in state)
        raise CheckpointError(
            f"the file holds {twice} twice, with and without the prefix of a wrapper such as _orig_mod.: save the "
            "model's own state_dict"
        )
    return {names[name]: value for name, value in state.items()}


def refuse_not_finite(state: Mapping[str, Tensor], origin: str) -> None:
    """Raise CheckpointError that names the weights with values that are NaN or infinite."""
    wrong = {
        name: int((~value.isfinite()).sum())
        for name, value in state.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    }
    if wrong:
        listed = ", ".join(
            f"{name} ({count:,} of {state[name].numel():,})" for name, count in list(wrong.items())[:SHOWN]
        )
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise CheckpointError(
            f"{origin} holds weights that are NaN or infinite: {listed}{more}. Its training went wrong, or the file is "
            "damaged: take an earlier checkpoint, or download it again"
        )
