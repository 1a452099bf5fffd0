"""The report of an aligned space: recall in all directions, what was held out, and its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from d2v.alignment.measure import NEW, Direction
from d2v.alignment.pair_features import PairFeatures
from d2v.alignment.recall import AT
from d2v.alignment.space import AlignedSpace
from d2v.reporting.report import Heading, Part, write_report
from d2v.reporting.tables import Table
from d2v.statistics import Interval

CARD = "model_card.md"
HOW = (
    "A query is answered if any of its partners is among the k nearest. Intervals are percentile bootstraps over "
    "queries; another training seed adds spread that they do not show. The bag of words is a ridge regression from the "
    "same features to the words of the text, compared by cosine. Chance is a random order."
)
HELD = (
    "Texts are held out with all their items, by a hash of the text. `new texts` are pairs of test items with texts "
    "that no training pair has; `known texts` are other test items, whose texts occur in training. No test item was "
    "trained on."
)


def write_alignment_report(
    out: Path, directions: Sequence[Direction], found: PairFeatures, space: AlignedSpace, metrics: Mapping[str, float]
) -> None:
    """Write `report.md`, `report.html` and `model_card.md` into `out`."""
    parts: list[Part] = [*_tables(directions), HOW, Heading("Pairs"), _pairs(found), HELD]
    write_report(out, "Aligned space", parts)
    modalities = ", ".join(space.heads)
    lines = [
        "# Aligned space",
        f"Two-layer heads on frozen encoders take {modalities} into one space of {space.width} numbers. They were "
        "trained with a symmetric contrastive loss; the encoders are those in `encoders/` and were not changed.",
        f"Mean recall at 5 over all directions, held-out pairs with new texts: {metrics['align/recall_at_5']:.3f} "
        f"({metrics['align/recall_at_5_low']:.3f} to {metrics['align/recall_at_5_high']:.3f}).",
        *(f"**{table.title}**\n\n{table.to_markdown()}" for table in _tables(directions)),
        HOW,
        f"**Pairs**\n\n{_pairs(found).to_markdown()}",
        HELD,
        "Not for: texts unlike those of the pairs. The space knows the words that its pairs had.",
    ]
    (out / CARD).write_text("\n\n".join(lines) + "\n")


def _tables(directions: Sequence[Direction]) -> Iterator[Table]:
    """One of new texts, one of known texts if there are some."""
    for texts in dict.fromkeys(one.texts for one in directions):
        rows = []
        for one in (one for one in directions if one.texts == texts):
            head = (f"{one.asking} to {one.asked}", one.kind, f"{one.queries:,} in {one.gallery:,}")
            for name, values in (("heads", one.aligned), ("bag of words", one.baseline)):
                if values:
                    rows.append((*head, name, *(_percent(values[k]) for k in AT)))
            rows.append((*head, "chance", *(f"{100 * one.chance[k]:.1f}" for k in AT)))
        title = f"Recall of held-out pairs, {texts}, %" if texts == NEW else f"Recall of new items, {texts}, %"
        columns = ("direction", "pairs", "queries in gallery", "by", *(f"at {k}" for k in AT))
        yield Table(title, columns, tuple(rows), texts=("pairs", "by"))


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _pairs(found: PairFeatures) -> Table:
    rows = tuple(
        (
            name,
            f"{held.train.first}, {held.train.second}",
            *(f"{len(one):,}" for one in (held.train, held.test, held.known)),
        )
        for name, held in found.held_out.items()
    )
    return Table("Pairs", ("kind", "of", "train", "test, new texts", "test, known texts"), rows, texts=("of",))
