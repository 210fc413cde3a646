"""Distances as Chroma computes them, for the server in memory."""

from __future__ import annotations

import numpy as np

from chromasync.model import Floats, Space


def distances(space: Space, rows: Floats, vector: Floats) -> Floats:
    """The distance of each row from a vector, as Chroma computes it."""
    if not len(rows):
        return np.empty(0, dtype=np.float32)
    dots = rows @ vector
    if space is Space.IP:
        turned: Floats = 1 - dots
        return turned
    if space is Space.L2:
        far: Floats = ((rows - vector) ** 2).sum(axis=1)
        return far
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(vector)
    angled: Floats = 1 - dots / np.maximum(lengths, np.float32(1e-30))
    return angled
