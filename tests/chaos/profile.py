"""How long the chaos tests go on: `CHROMASYNC_CHAOS=nightly` makes them long."""

from __future__ import annotations

import os

NIGHTLY = os.environ.get("CHROMASYNC_CHAOS") == "nightly"
