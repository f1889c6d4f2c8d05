"""JSON merge patch (RFC 7396): what is null goes, objects are merged, all else is replaced. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MAX_DEPTH: Final = 8
"""Levels of objects that are merged; nothing in the catalog has as many."""


def merge_patch(target: object, patch: object, *, depth: int = MAX_DEPTH) -> object:
    """The target as the patch says. Neither is changed. ValueError where objects nest deeper than `depth`."""
    if not isinstance(patch, Mapping):
        return patch
    if depth == 0:
        raise ValueError("nested too deeply")
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value, depth=depth - 1)
    return merged
