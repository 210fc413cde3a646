"""The guide's self-test: the same as `chromasync selftest`, options included.

It uses the installed package, or `src` beside this file where it is not installed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

USAGE = 2

if __name__ == "__main__":
    if find_spec("chromasync") is None:
        sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))
    try:
        from chromasync.cli import main
    except ModuleNotFoundError as missing:
        sys.stderr.write(f"Error: {missing}. Install chromasync first: pip install .\n")
        sys.exit(USAGE)
    sys.argv.insert(1, "selftest")
    main()
