"""Catalog types."""

from pipelines.datasets.folder import FolderDataset, OutputDirDataset

__all__ = ["FolderDataset", "OutputDirDataset"]
