"""Where recordings come from: one `Source` for whatever `speech.ingest.source` names.

A local path or any fsspec URL is listed once, its format is found from its name and contents, and the format's module
makes the source of it: folders, tar, zip and Parquet in `d2v.data`, with what `annotations` reads beside the
recordings; fairseq's tables in `manifests`; embedded and downloaded corpora in `named`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from fsspec.implementations.local import LocalFileSystem

from d2v.data.sources.archives import tar_source, zip_source
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
from d2v.data.sources.side_tables import tree_source
from d2v.data.sources.source import Source
from d2v.data.sources.tables import parquet_source
from d2v.modalities.speech.annotations import (
    AUDIO_SUFFIXES,
    COLUMNS,
    SIDE_NAMES,
    annotate,
)
from d2v.modalities.speech.config import SpeechIngestConfig
from d2v.modalities.speech.manifests import TRANSCRIPT_SUFFIXES, is_manifest, manifest_source
from d2v.modalities.speech.named import spoken_source, torchaudio_source

TEXTS = ("speaker", "transcript")
"""What a source may say about a recording beside its class; columns of the corpus."""
CONTENT_NAMES = ("audio", "bytes", "recording", "speech", "wav", "flac")

TREES = {"folder": folder_source, "tar": tar_source, "zip": zip_source}


def open_source(config: SpeechIngestConfig) -> Source:
    """Find the recordings that `config` names. Nothing but names, sizes, headers and manifests is read before items are
    asked for.

    Raises:
        ConfigError: options that the source does not have.
        DataError: nothing there, nothing in it, or not of the format it should be. Reading items raises it too, where
            the disk or the network fails; going on from the last item is then safe.

    Example:
        >>> source = open_source(SpeechIngestConfig(source="spoken"))
        >>> source.total
        3600
    """
    name, options = config.source, config.options
    if config.format == "torchaudio" or (config.format == "auto" and name.startswith("torchaudio:")):
        return torchaudio_source(name.removeprefix("torchaudio:"), options, wanted_recordings(config))
    if config.format == "spoken" or (config.format == "auto" and name == "spoken"):
        return spoken_source(options)
    with reading(name):
        source = _open_location(config)
    return guarded(source, name)


def wanted_recordings(config: SpeechIngestConfig) -> Wanted:
    """What ingest reads, for the sources that all modalities share."""
    return Wanted(
        modality="speech",
        noun="recordings",
        suffixes=AUDIO_SUFFIXES,
        max_item_bytes=config.max_item_bytes,
        embedded=("spoken",),
        library="torchaudio",
        columns=(config.columns.recording,) if config.columns.recording else CONTENT_NAMES,
        side_names=SIDE_NAMES,
        only_suffixes=True,
    )


def _open_location(config: SpeechIngestConfig) -> Source:
    wanted = wanted_recordings(config)
    location, is_folder = open_location(config.source, config.options, wanted)
    kind: str = config.format
    beside = [file for file in location.files if is_folder and wanted.has_suffix(file.name)]
    if kind == "auto" and (manifests := _manifests(location, is_folder, wanted)):
        return manifest_source(manifests, wanted, beside)
    if kind == "manifest":
        return manifest_source(location if is_folder else _with_transcripts(location), wanted, beside)
    kind, location = find_format(location, is_folder, wanted, kind, packed_as)
    columns = COLUMNS.choose(config.columns.model_dump())
    if kind == "parquet":
        return parquet_source(location, wanted, columns)
    return tree_source(TREES, kind, location, wanted, partial(annotate, columns=columns))


def is_source(file: Path) -> bool:
    """Whether a local file holds several recordings, or names them."""
    fs = LocalFileSystem()
    return packed_as(file.name) is not None or is_manifest(fs, find_file(fs, str(file), file.name))


def _manifests(location: Location, is_folder: bool, wanted: Wanted) -> Location | None:
    """fairseq's manifests at a location, with their transcripts; None if there are none."""
    found = [file for file in location.files if "/" not in file.key and is_manifest(location.fs, file)]
    if not found:
        return None
    if not is_folder:
        return _with_transcripts(location)
    wanted_names = {PurePosixPath(file.name).stem + suffix for file in found for suffix in TRANSCRIPT_SUFFIXES}
    return replace(location, files=(*found, *(file for file in location.files if file.key in wanted_names)))


def _with_transcripts(location: Location) -> Location:
    """A manifest with the files of words or letters that lie beside it."""
    path = PurePosixPath(location.files[0].path)
    beside = [path.with_suffix(suffix) for suffix in TRANSCRIPT_SUFFIXES]
    found = [find_file(location.fs, str(one), one.name) for one in beside if location.fs.exists(str(one))]
    return replace(location, files=(*location.files, *found))
