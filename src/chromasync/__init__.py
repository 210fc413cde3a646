"""Keeps a replica Chroma identical to its primary, provably."""

__version__ = "0.1.0"
