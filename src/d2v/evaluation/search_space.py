"""A space to compare items in, learned from features of training items without any label.

Features that a linear classifier reads well need not be near where items are alike: most of their variance lies along a
few axes, such as brightness and background, and these alone decide a cosine. Two steps help, which
docs/search.md measures:

1. Where tokens lie in a plane they are averaged in PARTS x PARTS parts of it, side by side, and not over all of it.
   Tokens in a sequence are averaged over all of it.
2. Whitening: principal axes, scaled to equal variance. The covariance is shrunk towards a multiple of the identity by
   the share of Ledoit and Wolf (2004), which has the least expected squared error and asks for no label. At most
   MOST_AXES axes are kept, those of the largest variance: 2 kB a vector.

The agreement of two augmented views of an item is no criterion for this: it is highest for plain features, as views
share their background.

Shapes: n items, T tokens, D width, P pooled width (D times the number of parts), R axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from d2v.data import digests
from d2v.data.batch import Inputs
from d2v.data.disk import sync
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.evaluation.features import extract
from d2v.models.encoder import Encoder
from d2v.models.masking import is_padding

SEARCH = "search.safetensors"
"""The file of a model folder."""
PARTS, MOST_AXES, MOST_ITEMS = 4, 512, 4000
VERSION = "1"
Grid = tuple[int, int]


@dataclass(frozen=True)
class SearchSpace:
    """An affine map from pooled features, and lengths of one after it.

    Attributes:
        mean_P: float32 of the items that it was learned from.
        axes_PR: float32 principal axes, divided by the standard deviation along them.
        grid: rows and columns of tokens that lie in a plane; None for a sequence.
    """

    mean_P: Tensor
    axes_PR: Tensor
    grid: Grid | None = None

    @property
    def width(self) -> int:
        """R."""
        return self.axes_PR.shape[1]

    def __call__(self, pooled_nP: Tensor) -> Tensor:
        """(n, R) vectors of length one, float32: their product is the cosine."""
        return functional.normalize((pooled_nP.float().cpu() - self.mean_P) @ self.axes_PR, dim=1)

    @classmethod
    def learned(cls, pooled_nP: Tensor, grid: Grid | None = None) -> SearchSpace:
        """Whitening with shrinkage.

        Args:
            pooled_nP: what `pool` gave of training items.
            grid: that they were pooled in.

        Raises:
            DataError: fewer than two items, or items that are all alike.
        """
        from sklearn.covariance import ledoit_wolf_shrinkage  # imported late: a second that encoding does not need

        items, width = pooled_nP.shape
        mean_P = pooled_nP.float().mean(dim=0)
        centred_nP = (pooled_nP - mean_P).double()
        mean_variance = float(centred_nP.square().mean()) if items else 0.0
        if items < 2 or mean_variance <= 1e-12 * float(mean_P.square().mean()):
            raise DataError(
                f"A space to search in is learned from items that differ, and these are {items} that do not: give more"
            )
        shrinkage = float(ledoit_wolf_shrinkage(centred_nP.numpy(), assume_centered=True))
        if width <= items:
            variance_P, axes_PP = torch.linalg.eigh(centred_nP.T @ centred_nP / items)
        else:  # the smaller matrix of inner products has the same axes
            variance_P, left_nn = torch.linalg.eigh(centred_nP @ centred_nP.T / items)
            axes_PP = centred_nP.T @ left_nn / (variance_P.clamp_min(1e-30) * items).sqrt()
        kept = min(MOST_AXES, int((variance_P > 1e-9 * variance_P[-1]).sum()))
        variance_R, axes_PR = variance_P.flip(0)[:kept], axes_PP.flip(1)[:, :kept]
        shrunk_R = (1.0 - shrinkage) * variance_R + shrinkage * mean_variance
        return cls(mean_P, (axes_PR * shrunk_R.rsqrt()).float().contiguous(), grid)

    def save(self, folder: Path) -> None:
        """Write it into a model folder, and seal the folder anew if it is sealed: the folder is either as before or
        has a whole file."""
        temporary = folder / f".{SEARCH}.tmp"
        about = {"version": VERSION, "grid": ",".join(map(str, self.grid or ()))}
        save_file({"mean": self.mean_P.contiguous(), "axes": self.axes_PR.contiguous()}, temporary, about)
        sync(temporary)
        temporary.replace(folder / SEARCH)
        digests.add(folder, SEARCH)

    @classmethod
    def read(cls, folder: Path) -> SearchSpace | None:
        """What `save` wrote; None where there is nothing.

        Raises:
            CheckpointError: the file is damaged or changed.
        """
        file, again = folder / SEARCH, f"learn it again: d2v space {folder} FOLDER_OF_ITEMS"
        if not file.is_file():
            return None
        digests.check(folder, [SEARCH], CheckpointError, again[0].upper() + again[1:])
        try:
            with safe_open(file, "pt") as content:
                sides = [int(side) for side in content.metadata()["grid"].split(",") if side]
                grid = (sides[0], sides[1]) if sides else None
                return cls(content.get_tensor("mean"), content.get_tensor("axes"), grid)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"{file} cannot be read ({error}): {again}") from error


def pool(tokens_nTD: Tensor, token_lengths: Tensor | None, grid: Grid | None) -> Tensor:
    """(n, P) averages of tokens.

    Args:
        tokens_nTD: final features of tokens.
        token_lengths: (n,) tokens that are not padding; None without padding.
        grid: rows and columns of tokens in a plane, row by row: then the averages of PARTS x PARTS parts of it, side by
            side (fewer where there are fewer rows or columns); None: the average of all.

    Raises:
        ConfigError: other tokens than the grid has.
    """
    if grid is None:
        if token_lengths is None:
            return tokens_nTD.mean(dim=1)
        padding_nT1 = is_padding(token_lengths, tokens_nTD.shape[1]).unsqueeze(-1)
        return tokens_nTD.masked_fill(padding_nT1, 0.0).sum(dim=1) / token_lengths[:, None]
    if tokens_nTD.shape[1] != grid[0] * grid[1]:
        raise ConfigError(
            f"the space to search in is of {grid[0]} x {grid[1]} tokens, and the encoder made {tokens_nTD.shape[1]}: "
            "learn it again with d2v space"
        )
    plane_nDHW = tokens_nTD.transpose(1, 2).unflatten(2, grid)
    sizes = (min(PARTS, grid[0]), min(PARTS, grid[1]))
    return functional.adaptive_avg_pool2d(plane_nDHW, sizes).flatten(1)


def extract_pooled(
    encoder: Encoder,
    inputs: Inputs,
    grid: Grid | None,
    batch_size: int = 256,
    note: Callable[[int], object] | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean-pooled features (n, D) and what `pool` gives of the same tokens (n, P), from one pass; else as
    `extract_features`."""

    def both(values: Tensor, lengths: Tensor | None) -> Tensor:
        tokens_BTD, token_lengths = encoder(values, lengths), encoder.token_lengths(lengths)
        means_BD = pool(tokens_BTD, token_lengths, None)
        return means_BD if grid is None else torch.cat([means_BD, pool(tokens_BTD, token_lengths, grid)], dim=1)

    rows = extract(encoder, both, inputs, batch_size, note)
    return rows[:, : encoder.width], rows if grid is None else rows[:, encoder.width :]


def learn(encoder: Encoder, inputs: Inputs, grid: Grid | None, batch_size: int = 256) -> SearchSpace:
    """The space of an encoder from inputs of training items; see `SearchSpace.learned`."""
    count = len(inputs)
    if count > MOST_ITEMS:
        inputs = inputs.select(torch.from_numpy(np.linspace(0, count - 1, MOST_ITEMS).astype(np.int64)))
    return SearchSpace.learned(extract_pooled(encoder, inputs, grid, batch_size)[1], grid)
