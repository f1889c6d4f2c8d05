"""What is released: a wheel that holds all the program reads, and a source archive that the same wheel is made from."""

from __future__ import annotations

import email
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from ingest import __version__
from ingest.compiled import MODULES

ROOT = Path(__file__).parents[2]
PACKAGES = ("ingest", "dedup", "storage")
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
COMPILED = {f"ingest/compiled/{path.stem}{SUFFIX}" for path in (ROOT / "ingest" / "compiled").glob("*.pyx")}
TIMEOUT_S = 100

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="no hatchling: install the extra `build`"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a source archive, and of a wheel made from that; without the internet."""
    folder, sources = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("sources")
    _run(*_hatchling("sdist", folder), cwd=ROOT)
    (path,) = folder.iterdir()
    with tarfile.open(path) as archive:
        archive.extractall(sources, filter="data")
    (unpacked,) = sources.iterdir()
    _run(*_hatchling("wheel", folder), cwd=unpacked, CC="", POSTBACK_COMPILED="require" if _can_compile() else "")
    return folder


def _hatchling(target: str, folder: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder))


def _can_compile() -> bool:
    has_headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    return has_headers and any(shutil.which(name) for name in ("cc", "gcc", "clang"))


def _started(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def _run(*command: str, cwd: Path, **env: str) -> str:
    done = _started(*command, cwd=cwd, **env)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _files_of_packages() -> set[str]:
    """All that stands in the packages' folders, code and data, and was not built there."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".") and path.suffix != ".so"
    }


def test_the_wheel_holds_the_packages_whole_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.whl")
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    *_, interpreter, abi, platform = path.stem.split("-")
    assert (interpreter, abi, platform != "any") == (
        (python, python, True) if _can_compile() else ("py3", "none", False)
    )
    with zipfile.ZipFile(path) as wheel:
        held = set(wheel.namelist())
        metadata = email.message_from_bytes(wheel.read(f"postback-{__version__}.dist-info/METADATA"))
        scripts = wheel.read(f"postback-{__version__}.dist-info/entry_points.txt").decode()
    wanted = _files_of_packages() | (COMPILED if _can_compile() else set())
    assert {name for name in held if ".dist-info/" not in name} == wanted
    kinds = {Path(name).suffix for name in held}
    assert kinds >= {".py", ".sql", ".lua", ".html", ".css", ".js", ".svg", ".toml", ".pyi", ".pyx", ".pxi"}
    assert "postback = ingest.cli:main" in scripts
    assert f"postback-{__version__}.dist-info/licenses/LICENSE" in held
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == ("postback", __version__, "MIT")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).startswith("# "), "the README is the description"


def test_the_source_archive_holds_the_packages_the_tests_and_the_documents(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in held if name.split("/")[0] in PACKAGES and Path(name).suffix} == _files_of_packages()
    wanted = "README.md CHANGELOG.md LICENSE SECURITY.md config.example.toml pyproject.toml tests/conftest.py"
    assert held >= {*wanted.split(), "hatch_build.py", "docs/operations.md", "deploy/haproxy.cfg", ".ci/run"}
    assert held >= {f"requirements{which}.txt" for which in ("", "-extras", "-dev")}
    strays = {name for name in held if name.startswith(("var/", ".venv/", "config.toml")) or "__pycache__" in name}
    assert not strays


def test_the_wheel_runs_where_the_sources_are_not(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "installed"
    pip = "-m pip --disable-pip-version-check install --quiet --no-deps --no-index --no-compile --target"
    _run(sys.executable, *pip.split(), str(target), str(wheel), cwd=tmp_path)
    said = _run(
        sys.executable,
        "-c",
        "import sys, ingest; from ingest.cli import main; from ingest.compiled import is_built\n"
        "print(ingest.__file__); print(is_built())\n"
        "for sys.argv[1] in ('--version', '--help'):\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code\n",
        "--",
        cwd=tmp_path,
        PYTHONPATH=str(target),
        PYTHONDONTWRITEBYTECODE="1",
    )
    where, compiled, version, *help_text = said.splitlines()
    assert Path(where).is_relative_to(target)
    assert compiled == str(_can_compile())
    assert version == f"postback {__version__}"
    assert any("serve" in line for line in help_text)
    script = (target / "bin" / "postback").read_text(encoding="utf-8")
    assert "from ingest.cli import main" in script


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"CC": "/bin/false"}, "not built: the C compiler (/bin/false) failed with 1. Everything works without it"),
        ({"CC": "no-such-compiler"}, "not built: no C compiler (no-such-compiler). Everything works without it"),
        ({"POSTBACK_COMPILED": "no"}, ""),
    ],
)
def test_without_compiled_code_the_wheel_is_for_all(tmp_path: Path, env: dict[str, str], said: str) -> None:
    done = _started(*_hatchling("wheel", tmp_path), cwd=ROOT, **{"POSTBACK_COMPILED": "", **env})
    assert done.returncode == 0, done.stderr
    assert ("postback: the compiled part was" in done.stderr) == bool(said)
    assert said in done.stderr
    (path,) = tmp_path.glob("*.whl")
    assert path.name == f"postback-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        assert {name for name in wheel.namelist() if ".dist-info/" not in name} == _files_of_packages()


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"POSTBACK_COMPILED": "require", "CC": "/bin/false"}, "not built: the C compiler (/bin/false) failed with 1."),
        ({"POSTBACK_COMPILED": "yes"}, 'POSTBACK_COMPILED is "yes": expected "require", "no" or nothing'),
    ],
)
def test_compiled_code_can_be_required(tmp_path: Path, env: dict[str, str], said: str) -> None:
    done = _started(*_hatchling("wheel", tmp_path), cwd=ROOT, **env)
    assert done.returncode != 0
    assert said in done.stderr
    assert not list(tmp_path.glob("*.whl"))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """What is built, in a folder of its own."""
    shutil.copytree(ROOT / "ingest" / "compiled", tmp_path / "ingest" / "compiled", ignore=_no_so)
    shutil.copy(ROOT / "hatch_build.py", tmp_path)
    (tmp_path / "ingest" / "__init__.py").touch()
    return tmp_path


_no_so = shutil.ignore_patterns("*.so", "__pycache__")


@pytest.mark.skipif(not _can_compile(), reason="no C compiler, or no headers of Python")
def test_compiled_code_is_built_among_its_sources(built: Path, sources: Path) -> None:
    said = _run(sys.executable, "hatch_build.py", cwd=sources, CC="", POSTBACK_COMPILED="require")
    assert set(said.split()) == COMPILED
    left = {path.suffix for path in (sources / "ingest" / "compiled").iterdir()}
    assert left == {".py", ".pyi", ".pyx", ".pxi", ".so"}
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        for name in COMPILED:
            assert (sources / name).read_bytes() == wheel.read(name), "the same sources make the same file"


def test_all_that_is_compiled_is_asked_for() -> None:
    assert sorted(MODULES) == sorted(path.stem for path in (ROOT / "ingest" / "compiled").glob("*.pyx"))


def test_what_could_not_be_built_leaves_nothing_older(sources: Path) -> None:
    for name in COMPILED:
        (sources / name).touch()
    assert not _run(sys.executable, "hatch_build.py", cwd=sources, CC="/bin/false", POSTBACK_COMPILED="")
    assert not [name for name in COMPILED if (sources / name).exists()]


def test_the_changelog_has_the_version() -> None:
    assert f"### {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
