"""`d2v look`: what an encoder makes of one's own items: where it looks, and which parts are alike to it; with players
of recordings and whole texts beside the pictures."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from d2v.data.sources.source import Item
from d2v.errors import DataError
from d2v.evaluation.attention import attention_received
from d2v.evaluation.features import extract_tokens
from d2v.interchange.load import Model, holds_several
from d2v.modalities import registry
from d2v.modalities.base import Modality
from d2v.reporting.figures import draw_looks
from d2v.reporting.page_parts import Example, Gallery
from d2v.reporting.report import Plot, write_page

CAPTION = (
    "Top: the items. Middle: attention of the last block, brighter where more of it goes. Bottom: the first three "
    "principal components of the tokens' features as colours: like colours are alike to the encoder."
)


def look(model: Model, source: Path, out: Path, items: int = 8) -> Path:
    """Write a page with attention maps and a PCA of token features, and the figure beside it.

    Args:
        model: an encoder, or a fine-tuned model.
        source: a file, or a folder or an archive, of which some items are taken at equal distances.
        out: the HTML file; the figure has its name with `.png`.
        items: how many.

    Returns:
        `out`.

    Raises:
        DataError: nothing is there, or an item cannot be read.
    """
    modality = registry.get(model.modality)
    if not source.exists():
        raise DataError(f"{source} is not there: give a file or a folder. It was looked for in {Path.cwd()}")
    opened = modality.open_files(source, {})
    total = (opened.source.total or len(model.files(source))) if holds_several(modality, source) else 1
    chosen = list(islice(opened.source.items(0), 0, None, max(1, total // items)))[:items]
    if not chosen:
        raise DataError(f"{source} holds no items for a model of {model.modality}: give another folder")
    inputs = model.to_inputs([opened.read(item) for item in chosen])
    tokens, attention = extract_tokens(model.encoder, inputs), attention_received(model.encoder, inputs)
    lengths = model.encoder.token_lengths(inputs.lengths)
    grid = modality.image_grid(tokens.shape[1])
    images = modality.pictures(inputs, model.about)
    figure = draw_looks(images, attention, tokens, grid, out.with_suffix(".png"), lengths)
    shown = Gallery((("Items", "", [_example(modality, item) for item in chosen]),))
    return write_page(out, f"d2v look: {source.name}", [repr(model), Plot(figure, CAPTION), shown])


def _example(modality: Modality, item: Item) -> Example:
    """The item itself: a thumbnail, a player, a text. One that has no preview is named."""
    name = Path(item.address or item.key).name
    try:
        preview = modality.preview(item.data, dict(item.texts)) if isinstance(item.data, bytes) else None
    except Exception:
        preview = None
    if preview is None:
        return Example(name)
    return Example(name, "", preview.text, preview.media_type, preview.data, preview.is_small)
