"""Folders as data sets: nodes hand over paths, and the files stay where they are.

A step that can be resumed writes straight into its folder, so it needs that folder before it has a result. The
catalog therefore names each output folder twice: as `<name>_dir`, where to write, and as what was written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from d2v.errors import DataError


class FolderDataset(AbstractDataset[Path, Path]):
    """A folder that a node has finished.

    Args:
        path: the folder; Kedro anchors a relative one at the project.
        proof: file inside it that is there only once the folder is complete.
        made_by: the registered pipeline that makes it, named in the error when it is missing.
        metadata: for Kedro plugins; unused here.
    """

    def __init__(self, path: str, proof: str, made_by: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self._proof = proof
        self._made_by = made_by
        self.metadata = metadata

    @property
    def proof(self) -> Path:
        """The file that is there once the folder is complete."""
        return self._path / self._proof

    def load(self) -> Path:
        """The folder's path. Raises DataError when it has not been made."""
        if not self._exists():
            raise DataError(
                f"{self._path} is missing or unfinished (no {self._proof} in it): make it with "
                f"`kedro run --pipeline={self._made_by}` in the same environment, then run this again"
            )
        return self._path

    def save(self, data: Path) -> None:
        """Accept the finished folder. Raises DataError when it is another folder or incomplete."""
        if Path(data) != self._path:
            raise DataError(f"a node wrote to {data}, but the catalog says {self._path}: correct conf/*/catalog*.yml")
        if not self._exists():
            raise DataError(f"{self._made_by} left no {self._proof} in {self._path}: run it again")

    def _exists(self) -> bool:
        return self.proof.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path), "proof": self._proof, "made_by": self._made_by}


class OutputDirDataset(AbstractDataset[Path, None]):
    """Where a node writes: loading makes the folder and returns its path.

    Args:
        path: the folder; Kedro anchors a relative one at the project.
        metadata: for Kedro plugins; unused here.
    """

    def __init__(self, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> Path:
        """The folder's path, made if need be. Raises DataError when it cannot be made."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"cannot make the folder {self._path} ({error.strerror}): check its owner and its disk"
            raise DataError(reason) from error
        return self._path

    def save(self, data: None) -> None:
        """Nodes write into the folder and never save it. Raises DataError."""
        raise DataError(
            f"{self._path} is where a node writes; let the node's output be the FolderDataset of the same path"
        )

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}
