"""Reports that show themselves in a notebook.

Reports know nothing of HTML. Whoever does registers with `html_of` (see `telling.notebook`).
"""

from __future__ import annotations

from functools import singledispatch


@singledispatch
def html_of(report: object) -> str | None:
    """The HTML of a report; None if nobody has registered for its type."""
    del report
    return None


class Displayed:
    """A report; a notebook shows it as HTML where that is known, otherwise as text."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        return html_of(self)
