"""Where images come from: one `Source` for whatever `vision.ingest.source` names.

A local path or any fsspec URL is listed once, its format is found from its name and contents, and the format's module
makes the source of it: folders, tar, zip and Parquet in `d2v.data`, IDX and .npz in `arrays`, embedded and downloaded
corpora in `named`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

from d2v.data.sources.archives import tar_source, zip_source
from d2v.data.sources.columns import Columns
from d2v.data.sources.layout import Wanted
from d2v.data.sources.locations import (
    Location,
    find_file,
    find_format,
    folder_source,
    guarded,
    open_location,
    packed_as,
    reading,
)
from d2v.data.sources.side_tables import TABLE, SideTables, tree_source
from d2v.data.sources.source import Source
from d2v.data.sources.tables import parquet_source
from d2v.modalities.vision.arrays import IDX_NAME, IMAGE_NAMES, idx_label_paths, idx_source, npz_source
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.named import embedded_source, torchvision_source

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jpe jfif png bmp gif tif tiff webp ppm pgm pbm pnm ico jp2 avif heic".split()  # noqa: SIM905
)
EMBEDDED = ("glyphs", "digits")

TREES = {"folder": folder_source, "tar": tar_source, "zip": zip_source}
ARRAYS: dict[str, Callable[[Location, Wanted], Source]] = {"idx": idx_source, "npz": npz_source}


def open_source(config: VisionIngestConfig) -> Source:
    """Find the images that `config` names. Nothing but names, sizes and headers is read before items are asked for.

    Raises:
        ConfigError: options that the source does not have.
        DataError: nothing there, nothing in it, or not of the format it should be. Reading items raises it too, where
            the disk or the network fails; going on from the last item is then safe.

    Example:
        >>> source = open_source(VisionIngestConfig(source="digits"))
        >>> next(source.items(0)).label
        '0'
    """
    name, options = config.source, config.options
    if config.format == "torchvision" or (config.format == "auto" and name.startswith("torchvision:")):
        return torchvision_source(name.removeprefix("torchvision:"), options, wanted_images(config))
    if config.format in EMBEDDED or (config.format == "auto" and name in EMBEDDED):
        return embedded_source(name if config.format == "auto" else config.format, options)
    with reading(name):
        source = _open_location(config)
    return guarded(source, name)


def wanted_images(config: VisionIngestConfig) -> Wanted:
    """What ingest reads, for the sources that all modalities share."""
    return Wanted(
        modality="vision",
        noun="images",
        suffixes=IMAGE_SUFFIXES,
        max_item_bytes=config.max_item_bytes,
        embedded=EMBEDDED,
        library="torchvision",
        columns=(config.columns.image,) if config.columns.image else IMAGE_NAMES,
        side_names=TABLE,
    )


def _open_location(config: VisionIngestConfig) -> Source:
    wanted = wanted_images(config)
    opened, is_folder = open_location(config.source, config.options, wanted, format_of)
    formats = ("tar", "zip", "idx", "npz", "parquet")
    kind, location = find_format(
        opened, is_folder, wanted, config.format, format_of, formats, ("idx", "parquet", "tar")
    )
    if kind == "idx":
        location = opened if is_folder else _with_labels(opened)
    columns = Columns().choose(config.columns.model_dump())
    if kind in ARRAYS:
        return ARRAYS[kind](location, wanted)
    if kind == "parquet":
        return parquet_source(location, wanted, columns)
    return tree_source(TREES, kind, location, wanted, partial(SideTables, suffixes=IMAGE_SUFFIXES, columns=columns))


def _with_labels(location: Location) -> Location:
    """An IDX file of images with its labels, if they lie beside it."""
    beside = [path for path in idx_label_paths(location.files[0].path) if location.fs.exists(path)]
    labels = [find_file(location.fs, path, PurePosixPath(path).name) for path in beside[:1]]
    return replace(location, files=(*location.files, *labels))


def format_of(name: str) -> str | None:
    """Format of a file that holds many images, from its name."""
    if IDX_NAME.match(name):
        return "idx"
    return "npz" if name.lower().endswith(".npz") else packed_as(name)
