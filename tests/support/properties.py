"""How long Hypothesis looks, by `CHROMASYNC_PROPERTIES`.

`quick` takes a quarter of the examples, as `make test-quick` does; `short` takes half of them, as
`make test` does. `nightly` takes fifty times as many, and others each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

CHOSEN = os.environ.get("CHROMASYNC_PROPERTIES")
NIGHTLY = CHOSEN == "nightly"
FACTOR = {"quick": 0.25, "short": 0.5, "nightly": 50}.get(CHOSEN or "", 1)


def examples(count: int) -> settings:
    """Settings for a test: by default the same `count` examples each time."""
    return settings(
        max_examples=max(1, int(count * FACTOR)),
        derandomize=not NIGHTLY,
        database=None,
        deadline=None,
        print_blob=NIGHTLY,
        suppress_health_check=[HealthCheck.too_slow],
    )
