"""Catalog types."""

from pipelines.datasets.folder import FolderDataset, PlaceDataset

__all__ = ["FolderDataset", "PlaceDataset"]
