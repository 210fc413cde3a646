"""Asks the page of this machine whether its process is ready: `python -m chromasync.web.probe`.

The health check of the image runs it where the page has a port. It imports nothing slow.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping

LONGEST_SECONDS = 10


def probe(variables: Mapping[str, str]) -> str:
    """Why the process with these variables is not ready; empty if it is."""
    port = variables.get("SYNC_HTTP_PORT") or variables.get("PORT") or ""
    host = variables.get("SYNC_HTTP_HOST") or "127.0.0.1"
    try:
        asked = http.client.HTTPConnection(host, int(port), timeout=LONGEST_SECONDS)
        asked.request("GET", "/readyz")
        answer = asked.getresponse()
        said = answer.read().decode(errors="replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    return "" if answer.status == 200 else said


if __name__ == "__main__":
    sys.exit(probe(os.environ) or 0)
