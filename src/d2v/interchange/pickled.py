"""Pickled checkpoints, read without running their code: only tensors, plain containers and settings are let through.

A few classes of fairseq and DeepSpeed stand in published files beside the weights. Each is replaced by a stand-in of
the same name, which keeps what the file says of the object and does nothing with it.
"""

from __future__ import annotations

import argparse
import collections
import pickle
import re
import typing
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import omegaconf
import torch
from omegaconf.base import ContainerMetadata, Metadata

from d2v.errors import CheckpointError

_SCALAR = np._core.multiarray.scalar  # type: ignore[attr-defined]

ALLOWED = (
    argparse.Namespace,
    collections.OrderedDict,
    collections.defaultdict,
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    omegaconf.nodes.AnyNode,
    omegaconf.nodes.BooleanNode,
    omegaconf.nodes.EnumNode,
    omegaconf.nodes.FloatNode,
    omegaconf.nodes.IntegerNode,
    omegaconf.nodes.StringNode,
    ContainerMetadata,
    Metadata,
    typing.Any,
    dict,
    list,
    int,
    float,
    str,
    bool,
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
)
"""Every type that a reference checkpoint may hold beside tensors: settings, and numbers such as the best loss."""


class StandIn:
    """An object of another program, as a file describes it.

    Attributes:
        arguments: that it would have been made with.
        state: that it would have got; None if the file tells none.
    """

    __slots__ = ("arguments", "state")

    def __new__(cls, *arguments: Any) -> StandIn:
        made = super().__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    arguments: tuple[Any, ...]
    state: Any


STANDS_IN_FOR = (
    "fairseq.data.dictionary.Dictionary",
    "fairseq.data.dictionary.TruncatedDictionary",
    "examples.data2vec.data.modality.Modality",
    "data2vec.data.modality.Modality",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
)
"""Classes whose objects become a `StandIn`: a task's dictionary, the names of modalities, loss scalers, paths."""
DICTIONARIES = STANDS_IN_FOR[:2]

_STAND_INS: dict[str, type[StandIn]] = {
    name: type(name.rpartition(".")[2], (StandIn,), {"__slots__": ()}) for name in STANDS_IN_FOR
}
_FOREIGN = re.compile(r"GLOBAL ([\w.]+)|unrecognized function ([^\n]+?)(?: which|$)|[Uu]nsupported class ([\w.]+)")


def unpickle(path: Path) -> Any:
    """The contents of a `torch.save` file, on the CPU.

    Raises:
        CheckpointError: the file is not there, damaged, something else, or holds objects outside the allow-list.
    """
    reason = _no_checkpoint(path)
    if reason:
        raise CheckpointError(f"{path} {reason}")
    stand_ins: list[Any] = [(cls, name) for name, cls in _STAND_INS.items()]
    try:
        with torch.serialization.safe_globals([*ALLOWED, *stand_ins]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about what is refused below anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's text advises to load the file with its check switched off, so none of it is passed on.
        found = _FOREIGN.search(str(error))
        name = next((group for group in found.groups() if group), "") if found else ""
        if name:
            raise CheckpointError(
                f"{path} is refused and nothing of it was run: it holds {name} beside tensors and settings, which is "
                "not on the list of known classes. Save its tensors and settings alone, as plain dictionaries, and "
                "give that file"
            ) from None
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint, its pickle is damaged or of another program: download it again"
        ) from None
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}), it is damaged: download it again"
        ) from None


def dictionary_symbols(content: Any) -> tuple[str, ...]:
    """The symbols by id of fairseq's Dictionary, read as a stand-in; empty for anything else."""
    if not isinstance(content, StandIn) or type(content) not in (_STAND_INS[name] for name in DICTIONARIES):
        return ()
    symbols = content.state.get("symbols") if isinstance(content.state, dict) else None
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        return ()
    return tuple(symbols)


# ------------------------------------------------------------------------------- files of other kinds

_LFS = b"version https://git-lfs.github.com/spec/"
_KINDS = (
    (b"\x1f\x8b", "is compressed with gzip: unpack it first"),
    (b"BZh", "is compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it first"),
    (b"\x89HDF", "is an HDF5 file, of Keras or another program: give a checkpoint of the reference"),
    (b"GGUF", "is a GGUF file: give a checkpoint of the reference"),
    (b"\x93NUMPY", "is an array of numpy: give a checkpoint of the reference"),
    (b"%PDF", "is a PDF document, not a checkpoint: download the file itself"),
)
_MARKUP = {
    b"<?xml": "is the XML answer of a server, not a checkpoint",
    b"<error": "is the XML answer of a server, not a checkpoint",
    b"<": "is a web page, not a checkpoint",
}
_AGAIN = "download the file itself, and look at the first lines of this one for the server's reason"


def _no_checkpoint(path: Path) -> str:
    """Why a file is no checkpoint, judged by its first bytes; empty if it may be one."""
    reason, head = _beginning(path)
    if reason:
        return reason
    if head.startswith(b"PK"):
        return _no_checkpoint_zip(path)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40:
        return (
            "is a safetensors file, which holds no settings: put it as model.safetensors beside its config.json, and "
            "give their folder"
        )
    if (kind := next((text for magic, text in _KINDS if head.startswith(magic)), "")) or head[257:262] == b"ustar":
        return kind or "is a tar archive: unpack it first"
    return _text_kind(head)


def no_download(path: Path, may_be_json: bool = False) -> str:
    """Why a file is not what was to be downloaded: not there, empty, a pointer, or the answer of a server; empty if it
    may be it."""
    reason, head = _beginning(path)
    is_json = may_be_json and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    return reason or ("" if is_json else _text_kind(head))


def _beginning(path: Path) -> tuple[str, bytes]:
    """(why there is nothing to read, or an empty text; the first bytes)."""
    if path.is_dir():
        return "is a folder: give a file", b""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        return f"cannot be read ({error.strerror}): give a checkpoint file", b""
    if not head:
        return "is empty: download it again", b""
    if not any(head):
        return "begins with zeros alone, as an interrupted download does: download it again", b""
    if head.startswith(_LFS):
        return "is a Git LFS pointer, not the file it stands for: run `git lfs pull` where it was cloned", head
    return "", head


def _text_kind(head: bytes) -> str:
    plain = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, text in _MARKUP.items():
        if plain.lower().startswith(start):
            return f"{text}: {_AGAIN}"
    if plain[:1] in (b"{", b"[") and _is_text(head):
        return f"is JSON, such as the answer of a server, not a checkpoint: {_AGAIN}"
    return f"is a text, not a checkpoint: {_AGAIN}" if _is_text(head) else ""


def _is_text(head: bytes) -> bool:
    """Whether nothing but printable characters and white space is there; pickles begin with bytes that are neither."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not a character that the end of `head` cuts
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character.isspace() for character in text.removeprefix("\ufeff"))


def _no_checkpoint_zip(path: Path) -> str:
    """`torch.save` writes a zip archive with data.pkl; its list of contents is at the end."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "is cut short: the end of its zip archive is missing. Download it again"
    if any(name.endswith("constants.pkl") for name in names):
        return "is a TorchScript program, not a checkpoint: give the file that it was made from"
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return ""
    some = ", ".join(names[:3]) or "nothing"
    return f"is a zip archive that holds no checkpoint, but {some}: unpack it, and give the checkpoint in it"
