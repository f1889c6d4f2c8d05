"""Builds ingest/compiled/*.pyx: hatchling's hook for wheels and editable installs; in place, `python hatch_build.py`.

POSTBACK_COMPILED=require: fail where they cannot be built; =no: leave them out; else build them if possible. CC, CFLAGS
and LDFLAGS are heeded.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT: Final = Path(__file__).resolve().parent
FOLDER: Final = "ingest/compiled"
SETTING: Final = "POSTBACK_COMPILED"
SUFFIX: Final = sysconfig.get_config_var("EXT_SUFFIX")
# Nothing of the machine that builds: the same sources make the same file. Nobody mends the warnings of generated code.
CFLAGS: Final = (
    "-O2 -DNDEBUG -fPIC -fwrapv -fno-strict-aliasing -w -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"
)
LDFLAGS: Final = "-bundle -undefined dynamic_lookup" if sys.platform == "darwin" else "-shared -Wl,-z,relro,-z,now"
WITHOUT: Final = (
    "Everything works without it; receivers take more processor time. To have it, get a C compiler and Python's headers"
    " (Debian, Ubuntu: apt install gcc python3-dev) and install again."
)


class NotBuiltError(Exception):
    """What is lacking, or what failed."""


class CompiledHook(BuildHookInterface[BuilderConfig]):
    """What hatchling calls for a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put what is built into the wheel, or beside its sources if the package is used from there."""
        if version == "editable":
            build_in_place()
            return
        self._folder = TemporaryDirectory(prefix="postback-")
        built = build(Path(self._folder.name))
        if built:
            build_data["pure_python"], build_data["infer_tag"] = False, True
            build_data["force_include"] |= {str(path): f"{FOLDER}/{path.name}" for path in built}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002  its shape
        """Leave nothing behind."""
        if version != "editable":
            self._folder.cleanup()


def build_in_place() -> list[Path]:
    """What was built, among its sources; what an earlier build left there is gone in any case."""
    folder = ROOT / FOLDER
    for source in folder.glob("*.pyx"):
        (folder / f"{source.stem}{SUFFIX}").unlink(missing_ok=True)
    with TemporaryDirectory(prefix="postback-") as temporary:
        built = []
        for path in build(Path(temporary)):
            # In one step: a program may be starting.
            new = Path(shutil.copy(path, folder / f"{path.name}.new"))
            built.append(new.replace(folder / path.name))
        return built


def build(folder: Path) -> list[Path]:
    """All modules, built into `folder`, or none. Raises NotBuiltError if they are required."""
    wanted = os.environ.get(SETTING, "")
    if wanted not in {"", "require", "no"}:
        raise NotBuiltError(f'{SETTING} is "{wanted}": expected "require", "no" or nothing')
    if wanted == "no":
        return []
    try:
        return list(_build(folder))
    except NotBuiltError as error:
        problem = f"postback: the compiled part was not built: {error}."
        if wanted == "require":
            raise NotBuiltError(f"{problem} {SETTING}=require asks for it.") from None
        sys.stderr.write(f"{problem} {WITHOUT}\n")
        return []


def _build(folder: Path) -> Iterator[Path]:
    compiler, include = _compiler(), _include()
    if find_spec("Cython") is None:
        raise NotBuiltError("no Cython (pip install cython)")
    for source in sorted((ROOT / FOLDER).glob("*.pyx")):
        c, module = folder / f"{source.stem}.c", folder / f"{source.stem}{SUFFIX}"
        # A relative name: tracebacks show it.
        _run("Cython", sys.executable, "-m", "cython", "-3", f"{FOLDER}/{source.name}", "-o", str(c))
        flags = shlex.split(f"{CFLAGS} {os.environ.get('CFLAGS', '')}")
        linked = shlex.split(f"{LDFLAGS} {os.environ.get('LDFLAGS', '')}")
        files = [f"-I{include}", c.name, "-o", module.name]
        _run(f"the C compiler ({compiler[0]})", *compiler, *flags, *files, *linked, folder=folder)
        yield module


def _compiler() -> list[str]:
    """The one that is named, else Python's own, else what there is."""
    named = os.environ.get("CC")
    for command in [named] if named else [sysconfig.get_config_var("CC"), "cc", "gcc", "clang"]:
        words = shlex.split(command or "")
        if words and shutil.which(words[0]):
            return words
    raise NotBuiltError(f"no C compiler ({named or 'gcc'})")


def _include() -> str:
    folder = sysconfig.get_path("include")
    if not Path(folder, "Python.h").exists():
        raise NotBuiltError(f"no headers of Python {sys.version_info[0]}.{sys.version_info[1]} ({folder}/Python.h)")
    return folder


def _run(what: str, *command: str, folder: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603  our own words
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise NotBuiltError(f"{what} failed with {done.returncode}")


if __name__ == "__main__":
    try:
        sys.stdout.writelines(f"{path.relative_to(ROOT)}\n" for path in build_in_place())
    except NotBuiltError as error:
        sys.exit(f"error: {error}")
