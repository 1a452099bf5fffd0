"""Credentials in a recipe are used, and written nowhere: not into a corpus, nor into a tracked run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_NAME = re.compile(r"(^|_)(key|secret|token|password|passwd|pwd|credentials?|connection_string)$", re.IGNORECASE)
_IN_URL = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]+)@")


def without_credentials(value: Any) -> Any:
    """A copy of nested values with `***` for passwords in URLs, and in blocks called `options` for what has the name of
    a credential.

    Example:
        >>> without_credentials({"source": "ftp://me:pass@host/x", "options": {"secret": "s", "anon": False}})
        {'source': 'ftp://me:***@host/x', 'options': {'secret': '***', 'anon': False}}
    """
    return _copy(value, in_options=False)


def _copy(value: Any, in_options: bool) -> Any:
    if isinstance(value, Mapping):
        return {
            name: HIDDEN
            if in_options and one is not None and _NAME.search(str(name))
            else _copy(one, in_options or name == "options")
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [_copy(one, in_options) for one in value]
    return _IN_URL.sub(rf"\1:{HIDDEN}@", value) if isinstance(value, str) else value
