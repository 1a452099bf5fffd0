"""The labels of a whole corpus, once all of them are known: which mean none, and on what can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from d2v.data import fingerprint
from d2v.data.sources.labels import MINUS_ONE, minus_one_means_none

UNLABELLED_SPLIT = "unlabelled"
"""Items that no step trains or measures on."""


class CorpusLabels:
    """The labels of a whole corpus: which of them mean none, and where none are left to measure on.

    Args:
        counts: split -> label -> number of items, "" for those without.
        no_label: labels that mean none, if the recipe says so.
        test_fraction: of the hash split.
        has_groups: whether the items of some group must stay in one split.

    Attributes:
        none: the labels that mean none.
        names: the classes.
        remarks: sentences for people.
    """

    def __init__(
        self,
        counts: Mapping[str, Mapping[str, int]],
        no_label: Sequence[str] | None,
        test_fraction: float,
        has_groups: bool,
    ) -> None:
        self.remarks: list[str] = []
        self.test_fraction = test_fraction
        self.none = set(no_label if no_label is not None else self._minus_one(counts))
        labelled = {
            split: {label: n for label, n in labels.items() if label and label not in self.none}
            for split, labels in counts.items()
        }
        self.names = set[str]().union(*labelled.values())
        self.renamed: dict[str, str] = {}
        self.hashes_train = False
        if labelled.get("train") and "test" in counts and not labelled["test"]:
            self._without_labelled_test(labelled, has_groups)
        self._compare(labelled.get("train", {}), labelled.get("val" if "val" in self.renamed else "test", {}))

    def _minus_one(self, counts: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
        means_none = minus_one_means_none(counts)
        if means_none is None:
            return ()
        items = sum(labels.get(MINUS_ONE, 0) for labels in counts.values())
        meaning = "is taken for no label" if means_none else "is taken for a class beside 0 and 1"
        self.remarks.append(f"the label -1 of {items:,} items {meaning}: ingest.no_label can say otherwise")
        return (MINUS_ONE,) if means_none else ()

    def _without_labelled_test(self, labelled: Mapping[str, Mapping[str, int]], has_groups: bool) -> None:
        """Measure on the validation split, or on items of train, where the test split has no labels."""
        if labelled.get("val"):
            self.renamed = {"val": "test", "test": UNLABELLED_SPLIT}
            self.remarks.append("the test split has no labels: the validation split is the test split")
        elif not has_groups:
            self.renamed, self.hashes_train = {"test": UNLABELLED_SPLIT}, True
            self.remarks.append(
                "the test split has no labels, and there is no validation split: ingest.test_fraction of the train "
                "split is the test split"
            )

    def _compare(self, train: Mapping[str, int], test: Mapping[str, int]) -> None:
        unknown = sorted(set(test) - set(train)) if train else []
        if unknown:
            items = sum(test[label] for label in unknown)
            shown = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8:,} more" if len(unknown) > 8 else "")
            self.remarks.append(
                f"classes of the test split that the train split lacks: {shown} ({items:,} items), which no "
                "classifier can name"
            )

    def applied(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of the manifest with the labels and splits that are meant."""
        labels, splits = batch.column("label").to_pylist(), batch.column("split").to_pylist()
        if self.none:
            labels = [None if label in self.none else label for label in labels]
        if self.hashes_train:
            digests = batch.column("sha256").to_pylist()
            splits = [
                fingerprint.hash_split(digest, self.test_fraction)
                if split == "train"
                else self.renamed.get(split, split)
                for split, digest in zip(splits, digests, strict=True)
            ]
        elif self.renamed:
            splits = [self.renamed.get(split, split) for split in splits]
        elif not self.none:
            return batch
        for name, values in (("label", labels), ("split", splits)):
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, batch.schema.field(place), pa.array(values, pa.string()))
        return batch
