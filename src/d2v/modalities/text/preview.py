"""The beginnings of stored texts."""

from __future__ import annotations

from collections.abc import Mapping

from d2v.modalities.base import Preview

SHOWN_CHARACTERS = 280


def preview(data: bytes, said: Mapping[str, object]) -> Preview:
    """The first SHOWN_CHARACTERS of a text, and of the second one of a pair; then its score."""
    parts = [_beginning(data.decode("utf-8", "replace"))]
    if said.get("second") is not None:
        parts.append(_beginning(str(said["second"])))
    if said.get("score") is not None:
        parts.append(f"score {said['score']}")
    return Preview("\n\u2014\n".join(parts))


def _beginning(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS].rstrip() + " \u2026"
