"""Statements that are compiled once for all stores of a test process.

SQLAlchemy compiles a statement when an engine meets it for the first time, which takes longer than
to execute it. The program opens one store in its life; the tests open thousands.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine
from sqlalchemy.engine import Dialect
from sqlalchemy.util import LRUCache

PLAIN = (bool, int, str, tuple, type(None))
"""Kinds of attributes by which dialects differ."""


class Compiled:
    """What an engine keeps compiled, for all engines with equal dialects."""

    def __init__(self) -> None:
        self._compiled: LRUCache[Any, Any] = LRUCache(5_000)
        self._kinds: WeakKeyDictionary[Dialect, tuple[Any, ...]] = WeakKeyDictionary()

    def get(self, key: tuple[Any, ...]) -> Any:
        """The compiled statement, or None."""
        return self._compiled.get(self._general(key))

    def __setitem__(self, key: tuple[Any, ...], statement: Any) -> None:
        self._compiled[self._general(key)] = statement

    def _general(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        """The key with all that a dialect is, in place of that one object."""
        dialect, *rest = key
        if (kind := self._kinds.get(dialect)) is None:
            plain = [(n, v) for n, v in vars(dialect).items() if isinstance(v, PLAIN)]
            kind = self._kinds[dialect] = (type(dialect), *sorted(plain))
        return kind, *rest


def share() -> None:
    """From now on, let all new engines of this process have one such cache."""
    compiled: Any = Compiled()
    engines: Any = Engine
    begin = engines.__init__

    def begin_with_it(engine: Engine, *args: Any, **options: Any) -> None:
        begin(engine, *args, **options)
        engine._compiled_cache = compiled

    engines.__init__ = begin_with_it
