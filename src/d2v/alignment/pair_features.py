"""Features of the items of all pairs, as a folder that `d2v.interchange.encode_pairs` leaves.

features.json         pairs by kind, parted; the modalities; what they were made of
<modality>.npz        features of its items, by row
texts.json            the texts among the items, by row
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2v.alignment.pairs import HeldOut, Pairs
from d2v.data import digests
from d2v.data.disk import read_json
from d2v.errors import DataError

FEATURES, TEXTS = "features.json", "texts.json"


@dataclass(frozen=True)
class PairFeatures:
    """What is in the folder.

    Attributes:
        features: modality -> (n, D) float32.
        held_out: kinds of pairs, parted.
        texts: modality -> (n,) its items where they are texts.
        about: contents of features.json.
    """

    features: Mapping[str, Tensor]
    held_out: Mapping[str, HeldOut]
    texts: Mapping[str, Sequence[str]]
    about: Mapping[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """Fingerprints of the encoders and a digest of the pairs."""
        return dict(self.about["identity"])


def read_pair_features(folder: Path) -> PairFeatures:
    """Read such a folder.

    Raises:
        DataError: it is not there, or damaged.
    """
    again = "run kedro run --pipeline=align again"
    about = read_json(folder / FEATURES, DataError, again, {"modalities": list, "kinds": dict, "files": dict})
    for name, digest in about["files"].items():
        if not (folder / name).is_file() or digests.of_file(folder / name) != digest:
            raise DataError(f"{folder / name} is not what was written: remove {folder} and {again}")
    features = {name: torch.from_numpy(np.load(folder / f"{name}.npz")["features"]) for name in about["modalities"]}
    held = {}
    for name, kind in about["kinds"].items():
        parts = {
            part: Pairs(name, kind["first"], kind["second"], *(np.array(rows, np.int64) for rows in kind[part]))
            for part in ("train", "test", "known")
        }
        held[name] = HeldOut(**parts)
    return PairFeatures(features, held, read_json(folder / TEXTS, DataError, again, {}), about)
