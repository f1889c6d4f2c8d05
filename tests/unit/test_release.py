"""What is released: a wheel that holds all the program reads, and a source archive that the same wheel is made from."""

from __future__ import annotations

import email
import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ingest import __version__

ROOT = Path(__file__).parents[2]
PACKAGES = ("ingest", "dedup", "storage")
TIMEOUT_S = 60

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="no hatchling: install the extra `build`"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a wheel and a source archive, made without the internet."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "hatchling", "build", "--directory", str(folder), cwd=ROOT)
    return folder


def _run(*command: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _files_of_packages() -> set[str]:
    """All that stands in the packages' folders, code and data."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def test_the_wheel_holds_the_packages_whole_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.whl")
    assert path.name == f"postback-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        held = set(wheel.namelist())
        metadata = email.message_from_bytes(wheel.read(f"postback-{__version__}.dist-info/METADATA"))
        scripts = wheel.read(f"postback-{__version__}.dist-info/entry_points.txt").decode()
    assert {name for name in held if ".dist-info/" not in name} == _files_of_packages()
    kinds = {Path(name).suffix for name in held}
    assert kinds >= {".py", ".sql", ".lua", ".html", ".css", ".js", ".svg", ".toml"}
    assert "postback = ingest.cli:main" in scripts
    assert f"postback-{__version__}.dist-info/licenses/LICENSE" in held
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == ("postback", __version__, "MIT")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).startswith("# "), "the README is the description"


def test_the_source_archive_holds_the_packages_the_tests_and_the_documents(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held >= _files_of_packages()
    wanted = "README.md CHANGELOG.md LICENSE SECURITY.md config.example.toml pyproject.toml tests/conftest.py"
    assert held >= {*wanted.split(), "docs/operations.md", "deploy/haproxy.cfg", ".ci/run"}
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
        "import sys, ingest; from ingest.cli import main; print(ingest.__file__)\n"
        "for sys.argv[1] in ('--version', '--help'):\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code\n",
        "--",
        cwd=tmp_path,
        PYTHONPATH=str(target),
        PYTHONDONTWRITEBYTECODE="1",
    )
    where, version, *help_text = said.splitlines()
    assert Path(where).is_relative_to(target)
    assert version == f"postback {__version__}"
    assert any("serve" in line for line in help_text)
    script = (target / "bin" / "postback").read_text(encoding="utf-8")
    assert "from ingest.cli import main" in script


def test_the_changelog_has_the_version() -> None:
    assert f"### {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
