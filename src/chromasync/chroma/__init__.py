"""The only package that speaks HTTP to Chroma: requests, pace, retries, and error translation."""

from chromasync.chroma.connection import Connection
from chromasync.chroma.pace import Pace
from chromasync.chroma.pacer import Pacer
from chromasync.chroma.reader import ChromaReader
from chromasync.chroma.writer import ChromaWriter

__all__ = ["ChromaReader", "ChromaWriter", "Connection", "Pace", "Pacer"]
