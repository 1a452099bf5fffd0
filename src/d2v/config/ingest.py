"""What the ingest blocks of all modalities share."""

from __future__ import annotations

from d2v.config.blocks import Block


class ColumnsConfig(Block):
    """Names of the columns of tables, whatever their case. null: the first of the usual names; an empty text: none."""

    label: str | None = None
    """Column of the class."""
    split: str | None = None
    """Column of the split."""
    group: str | None = None
    """Column of what must not be in two splits, such as the speaker, the patient or the fold: where a hash parts the
    items, it parts whole groups."""
