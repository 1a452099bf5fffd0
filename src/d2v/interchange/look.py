"""`d2v look`: what an encoder makes of one's own items: where it looks, and which parts are alike to it; with players
of recordings and whole texts beside the pictures, and items on a map."""

from __future__ import annotations

from pathlib import Path

from d2v.data.sources.source import Item, Source
from d2v.errors import ConfigError, DataError
from d2v.evaluation.attention import attention_received
from d2v.evaluation.features import extract_tokens
from d2v.interchange.load import Model, Space, holds_several
from d2v.modalities import registry
from d2v.modalities.base import Modality, OwnFiles
from d2v.reporting.figures import draw_looks, draw_map
from d2v.reporting.page_parts import Example, Gallery, PagePart
from d2v.reporting.report import Part, Plot, write_page

CAPTION = (
    "Top: the items. Middle: attention of the last block, brighter where more of it goes. Bottom: the first three "
    "principal components of the tokens' features as colours: like colours are alike to the encoder."
)


MAP_CAPTION = (
    "Items on a plane: UMAP (McInnes et al. 2018) of {features}, by their cosine. Items that lie together are "
    "alike to the encoder; how far apart groups lie says little. {shown:,} of {total:,} items."
)
LEAST_ON_A_MAP, NEIGHBOURS = 4, 15
INSTALL = "pip install 'd2v[maps]'"


def look(model: Model, source: Path, out: Path, items: int = 8, on_map: int = 0) -> Path:
    """Write a page with attention maps and a PCA of token features, and the figures beside it.

    Args:
        model: an encoder, or a fine-tuned model.
        source: a file, or a folder or an archive, of which some items are taken at equal distances.
        out: the HTML file; the figure has its name with `.png`, that of the map with `_map.png`.
        items: how many.
        on_map: how many items lie on a map of their features; 0 for no map.

    Returns:
        `out`.

    Raises:
        DataError: nothing is there, or an item cannot be read; or there are too few for a map.
        ConfigError: a map needs a package that is not installed.
    """
    modality = registry.get(model.modality)
    if not source.exists():
        raise DataError(f"{source} is not there: give a file or a folder. It was looked for in {Path.cwd()}")
    opened = modality.open_files(source, {})
    total = (opened.source.total or len(model.files(source))) if holds_several(modality, source) else 1
    chosen = _some(opened.source, total, items)
    if not chosen:
        raise DataError(f"{source} holds no items for a model of {model.modality}: give another folder")
    inputs = model.to_inputs([opened.read(item) for item in chosen])
    tokens, attention = extract_tokens(model.encoder, inputs), attention_received(model.encoder, inputs)
    lengths = model.encoder.token_lengths(inputs.lengths)
    grid = modality.image_grid(tokens.shape[1])
    images = modality.pictures(inputs, model.about)
    figure = draw_looks(images, attention, tokens, grid, out.with_suffix(".png"), lengths)
    shown = Gallery((("Items", "", [_example(modality, item) for item in chosen]),))
    parts: list[Part | PagePart] = [repr(model), Plot(figure, CAPTION), shown]
    if on_map:
        parts.append(_map(model, opened, total, on_map, out.with_name(f"{out.stem}_map.png")))
    return write_page(out, f"d2v look: {source.name}", parts)


def _some(source: Source, total: int, count: int) -> list[Item]:
    """Items at equal distances."""
    chosen = {number * total // count for number in range(count)} if total > count else None
    return [item for number, item in enumerate(source.items(0)) if chosen is None or number in chosen]


def _map(model: Model, opened: OwnFiles, total: int, count: int, path: Path) -> Plot:
    """Up to `count` items on a plane, in the space to search in where the encoder has one."""
    try:
        from umap import UMAP  # imported late: seconds, for its compiler
    except ImportError as error:
        raise ConfigError(f"A map needs umap-learn, which is not installed ({error}): {INSTALL}") from error
    chosen = _some(opened.source, total, count)
    if len(chosen) < LEAST_ON_A_MAP:
        raise DataError(
            f"{len(chosen)} items make no map: give a folder of {LEAST_ON_A_MAP} or more, or leave out --map"
        )
    space: Space = "plain" if model.search_space is None else "search"
    features_ND = model.encode((opened.read(item) for item in chosen), space=space)
    neighbours = min(NEIGHBOURS, len(chosen) - 1)
    mapping = UMAP(n_neighbors=neighbours, metric="cosine", init="pca", random_state=0, n_jobs=1)
    draw_map(mapping.fit_transform(features_ND), [item.label for item in chosen], path)
    features = {"plain": "features", "search": "features in the space to search in"}[space]
    return Plot(path, MAP_CAPTION.format(features=features, shown=len(chosen), total=total))


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
