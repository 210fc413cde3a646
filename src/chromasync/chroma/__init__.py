"""The only package that speaks HTTP to Chroma: requests, retries, limits and error translation."""

from chromasync.chroma.client import Connection
from chromasync.chroma.reader import ChromaReader
from chromasync.chroma.writer import ChromaWriter

__all__ = ["ChromaReader", "ChromaWriter", "Connection"]
