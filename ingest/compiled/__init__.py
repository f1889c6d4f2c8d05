"""Code that is compiled where a C compiler is at hand when the package is built; all works without it, slower."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

MODULES: Final = ("plain", "requests")


def is_built() -> bool:
    """Whether it is there."""
    return all(find_spec(f"{__name__}.{name}") is not None for name in MODULES)
