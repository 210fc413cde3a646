"""The only package that speaks HTTP to Chroma: requests, retries, limits and error translation."""

from chromasync.chroma.client import Connection
from chromasync.chroma.endpoint import ChromaReader, ChromaWriter

__all__ = ["ChromaReader", "ChromaWriter", "Connection"]
