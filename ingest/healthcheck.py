"""`python -m ingest.healthcheck`: whether the `postback serve` of this data_dir lives; for containers without curl.

Asks /healthz, or with --ready /readyz; the exit status is 0 if it says yes. Imports little: it runs every few seconds.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from ingest.config import ConfigError, load_config

ANSWER_S: Final = 3.0
STATE_FILES: Final = ("server.json", "writer.json")
"""What `ingest.serve` writes into data_dir/run once it serves; of a writer alone, the second."""


def check(run_path: Path, *, ready: bool) -> str | None:
    """What is wrong; None: nothing."""
    for name in STATE_FILES:
        try:
            url = str(json.loads((run_path / name).read_text(encoding="utf-8"))["url"])
            break
        except FileNotFoundError:
            continue
        except (OSError, ValueError, LookupError, TypeError) as error:
            return f"{run_path / name}: {error}"
    else:
        return f"{run_path}: nothing runs here, or it is not ready to serve yet"
    try:
        # No proxy of the environment: the program is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url}/{'readyz' if ready else 'healthz'}", timeout=ANSWER_S):
            return None
    except urllib.error.HTTPError as error:
        return error.read(1000).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        return f"{url}: {error}"


def main() -> None:
    """Exits with 1 and says why, unless all is well."""
    named = os.environ.get("POSTBACK_CONFIG")
    try:
        problem = check(load_config(Path(named) if named else None).data_path / "run", ready="--ready" in sys.argv[1:])
    except ConfigError as error:
        problem = str(error)
    if problem is not None:
        sys.exit(problem)


if __name__ == "__main__":
    main()
