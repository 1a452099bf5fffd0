"""The plots of an evaluation: curves of the run, masks, token features, nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from d2v.config import EvaluateConfig, TrainConfig
from d2v.data.batch import Batch, Inputs
from d2v.evaluation.features import extract_tokens
from d2v.evaluation.online import OnlineProbe
from d2v.evaluation.probe_set import some_rows
from d2v.modalities.base import Modality, PreparedData, ProbeSet
from d2v.models.encoder import Encoder
from d2v.objectives.base import Objective
from d2v.reporting.figures import draw_curves, draw_masks, draw_neighbours, draw_pca
from d2v.reporting.report import Plot
from d2v.training.history import History

NEIGHBOURS = 8


@dataclass(frozen=True)
class Illustrator:
    """Draws test items of a probe set into `out`.

    Attributes:
        modality: turns items into images.
        recipe: the train block.
        config: how many items to show.
        data: the prepared folder, opened.
        items: the probe set; at least one train and one test item.
        out: folder of the PNG files.
    """

    modality: Modality
    recipe: TrainConfig
    config: EvaluateConfig
    data: PreparedData
    items: ProbeSet
    out: Path

    def curves(self, history: Path) -> tuple[Plot, dict[str, float]]:
        """The run's metrics over updates, with the baselines of the online probe as levels; and where these curves end
        and the levels lie."""
        read = History.read(history)
        table, ends = pd.DataFrame(read.rows), read.last()
        for name, value in OnlineProbe(self.modality, self.recipe, self.data, self.config).baselines().items():
            table.loc[table.index[-1], name] = ends[name] = value
        path = draw_curves(table, self.out / "curves.png")
        words = (
            "The online probe holds out some train items, for the test items are touched once, at the end. The table "
            "below has where its curves end; the tables above are of the test items."
        )
        return Plot(path, words), ends

    def masks(self, objective: Objective) -> Plot:
        """The visible tokens of some items."""
        inputs = self._some_inputs()
        ids = torch.arange(len(inputs))
        batch = Batch(inputs.values, ids, torch.zeros_like(ids), 0, inputs.lengths)
        is_masked = objective.draw_masks(batch, self.recipe.seed, "cpu").is_masked.unflatten(0, (len(inputs), -1))
        grid, lengths = self.modality.image_grid(is_masked.shape[-1]), objective.student.token_lengths(inputs.lengths)
        images = self.modality.to_images(inputs, self.data)
        path = draw_masks(images, is_masked, grid, self.out / "masks.png", lengths)
        return Plot(path, "Masks as training draws them. Shaded tokens are masked, and the student must predict them.")

    def pca(self, encoders: dict[str, Encoder]) -> Plot:
        """Token features of some items as colours, one row an encoder."""
        inputs = self._some_inputs()
        tokens = {name: extract_tokens(encoder, inputs, self.config.batch_size) for name, encoder in encoders.items()}
        first = next(iter(encoders.values()))
        lengths = first.token_lengths(inputs.lengths)
        grid = self.modality.image_grid(next(iter(tokens.values())).shape[1])
        path = draw_pca(self.modality.to_images(inputs, self.data), tokens, grid, self.out / "pca.png", lengths)
        return Plot(path, "Tokens of like colour have like features.")

    def neighbours(self, train_ND: Tensor, test_TD: Tensor) -> Plot:
        """Test items with the train items whose features point the same way."""
        rows = self._shown(self.config.neighbour_queries)
        queries_QD, pool_ND = (functional.normalize(features, dim=1) for features in (test_TD[rows], train_ND))
        most = min(NEIGHBOURS, self.modality.images_per_row, len(pool_ND))
        nearest_Qk = (queries_QD @ pool_ND.T).topk(most, dim=1).indices
        shown = self._images(self.items.test_inputs.select(rows), self.items.train_inputs.select(nearest_Qk.flatten()))
        labels, near_labels = self.items.test_labels[rows], self.items.train_labels[nearest_Qk]
        labelled = bool((labels >= 0).all() and (near_labels >= 0).all())
        path = draw_neighbours(
            shown[: len(rows)],
            shown[len(rows) :].reshape(*nearest_Qk.shape, *shown.shape[1:]),
            self.out / "neighbours.png",
            labels.tolist() if labelled else None,
            near_labels.numpy() if labelled else None,
            self.items.class_names,
        )
        return Plot(path, "Each test item with its nearest train items in the pretrained encoder's space to search in.")

    def _images(self, *several: Inputs) -> np.ndarray:
        """Images of several inputs, all of one size: white where one is smaller."""
        drawn = [self.modality.to_images(inputs, self.data) for inputs in several]
        height, width = (max(one.shape[axis] for one in drawn) for axis in (1, 2))
        whole = np.full((sum(map(len, drawn)), height, width, 3), 255, dtype=np.uint8)
        start = 0
        for one in drawn:
            whole[start : start + len(one), : one.shape[1], : one.shape[2]] = one
            start += len(one)
        return whole

    def _some_inputs(self) -> Inputs:
        return self.items.test_inputs.select(self._shown(min(self.config.picture_items, self.modality.images_per_row)))

    def _shown(self, most: int) -> Tensor:
        return some_rows(len(self.items.test_inputs), most, seed=1)
