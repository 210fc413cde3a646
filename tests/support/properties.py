"""How long Hypothesis looks: `CHROMASYNC_PROPERTIES=nightly` makes it look long, and elsewhere."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

NIGHTLY = os.environ.get("CHROMASYNC_PROPERTIES") == "nightly"


def examples(count: int) -> settings:
    """Settings for a test: by default the same `count` examples each time."""
    return settings(
        max_examples=count * 50 if NIGHTLY else count,
        derandomize=not NIGHTLY,
        database=None,
        deadline=None,
        print_blob=NIGHTLY,
        suppress_health_check=[HealthCheck.too_slow],
    )
