"""Code that is compiled where a C compiler is at hand when the package is built; all works without it, slower."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

MODULES: Final = ("plain", "requests")
NOT_BUILT: Final = (
    "not built: receivers take more processor time; get a C compiler and Python's headers"
    " (Debian, Ubuntu: apt install gcc python3-dev) and install again"
)
"""What is said where there is no compiled code."""


def is_built() -> bool:
    """Whether it is there."""
    return all(find_spec(f"{__name__}.{name}") is not None for name in MODULES)
