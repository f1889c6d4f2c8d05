"""The compiled code under the sanitizers of addresses and undefined behaviour of gcc (Linux), held to what its tests
say with many more examples: `make sanitize`, or `python -m tests.compiled_sanitized 600` for ten minutes.

Builds into a folder that goes again. Any report ends it, with an exit code that is not 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

from hatch_build import build

ROOT: Final = Path(__file__).parent.parent
TESTS: Final = (
    "tests/property/test_plain.py",
    "tests/property/test_plain_recording.py",
    "tests/property/test_plain_requests.py",
    "tests/unit/test_compiled_plain.py",
    "tests/unit/test_compiled_memory.py",
)
FLAGS: Final = "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
"""No signed number may wrap here, as it may where it is built for use."""
CHECKED: Final = f"{FLAGS} -fno-omit-frame-pointer -fno-wrapv -U_FORTIFY_SOURCE -UNDEBUG -g -O1"
NOT: Final = "not test_the_process_does_not_grow_with_batches"
"""What is freed stays for a while, to be watched: of growth this says nothing."""
FOLDER: Final = "SANITIZED_FOLDER"


def runtime(compiler: str) -> str:
    """The sanitizer's library, which must be loaded before all others."""
    asked = [compiler, "-print-file-name=libasan.so"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def pytest_configure() -> None:
    """As a plugin of the tests: they meet what was built in the folder."""
    import ingest.compiled

    folder = os.environ[FOLDER]
    ingest.compiled.__path__.insert(0, folder)
    from ingest.compiled import plain

    assert str(plain.__file__).startswith(folder), "this is not what was built"


def run(folder: Path, compiler: str) -> int:
    """The tests, once, on what was built. Their exit code."""
    environment = os.environ | {
        "LD_PRELOAD": runtime(compiler),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=1:malloc_context_size=8",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "PYTHONMALLOC": "malloc",
        "MORE_EXAMPLES": "5",
        FOLDER: str(folder),
    }
    # -s: a report goes to standard error, and with it the process.
    asked = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "tests.compiled_sanitized", "-p", "no:cacheprovider"]
    return subprocess.run([*asked, "--timeout=0", "-k", NOT, *TESTS], cwd=ROOT, env=environment, check=False).returncode


def main(seconds: float, compiler: str) -> int:
    """Round after round, until the time is up or something is found."""
    with TemporaryDirectory(prefix="sanitized-") as made:
        os.environ |= {"CC": compiler, "CFLAGS": CHECKED, "LDFLAGS": FLAGS, "POSTBACK_COMPILED": "require"}
        build(Path(made))
        ends = monotonic() + seconds
        code = rounds = 0
        while not code and (not rounds or monotonic() < ends):
            code = run(Path(made), compiler)
            rounds += 1
    print(f"{rounds} rounds under the sanitizers, exit code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60, os.environ.get("CC", "gcc")))
