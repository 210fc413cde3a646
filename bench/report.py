"""Turns what was measured into the table: fidelity first, then ratios with their goals beside them.

Speeds depend on the machine; ratios of things measured in the same round hardly do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

Result = Mapping[str, Any]
Figure = Callable[[Result], float]
CONTENDERS = ("raw", "naive", "ours")
HEADINGS = ("", "raw requests", "naive loop", "chromasync", "ratio", "goal", "reached")
UNRANKED = "not ranked"
NONE = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `reached` is None where nothing is promised."""

    what: str
    raw: str = NONE
    naive: str = NONE
    ours: str = NONE
    ratio: str = ""
    goal: str = ""
    reached: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The text of each column."""
        reached = "" if self.reached is None else "yes" if self.reached else "NO"
        return (self.what, self.raw, self.naive, self.ours, self.ratio, self.goal, reached)


def copy_seconds(round_: Result) -> float:
    """Seconds of our first copy, opening included."""
    copy = round_["ours_copy"]
    return float(copy["open_seconds"] + copy["cycles"][0]["seconds"])


def cycle_seconds(name: str) -> Figure:
    """Median seconds of the cycles of one of our measurements."""
    return lambda round_: median(cycle["seconds"] for cycle in round_[name]["cycles"])


def seconds_of(name: str) -> Figure:
    """Seconds of a measurement of another contender."""
    return lambda round_: float(round_[name]["seconds"])


@dataclass(frozen=True, slots=True)
class Figures:
    """The results of one run of the bench, with the questions the table asks of them."""

    results: Result

    @property
    def rounds(self) -> list[Result]:
        """One result per round."""
        return list(self.results["rounds"])

    @property
    def records(self) -> int:
        """Records on the primary."""
        return int(self.results["records"])

    def middle(self, figure: Figure) -> float:
        """The median over the rounds."""
        return median(figure(round_) for round_ in self.rounds)

    def ratio(self, above: Figure, below: Figure) -> float:
        """The median of the ratios within each round."""
        return self.middle(lambda round_: above(round_) / max(below(round_), 1e-9))

    def faults(self, contender: str) -> list[str]:
        """What the judge found against a contender, over all rounds."""
        names = {"ours": ("ours_copy", "ours_change")}.get(contender, (f"{contender}_copy",))
        verdicts = [round_[name]["fidelity"] for round_ in self.rounds for name in names]
        return [verdict["text"] for verdict in verdicts if not verdict["identical"]]

    def ranked(self, *contenders: str) -> bool:
        """Whether all of them were identical in every round."""
        return not any(self.faults(contender) for contender in contenders)

    def traffic(self, contender: str, phase: str, side: str) -> Mapping[str, int]:
        """What passed between a contender and one side in the counting pass."""
        counted: Mapping[str, int] = self.results["counted"][contender][phase][side]
        return counted


def rows_of(results: Result) -> list[Row]:
    """The whole table."""
    figures = Figures(results)
    return [
        *_fidelity(figures),
        *_speeds(figures),
        *_change(figures),
        *_traffic(figures),
        *_resources(figures),
    ]


def is_sound(results: Result) -> bool:
    """Whether ours was identical each time and wrote nothing in unchanged cycles."""
    figures = Figures(results)
    edits = results["counted"]["ours"]["fidelity_after_edits"]
    return figures.ranked("ours") and bool(edits["identical"]) and _needless_writes(figures) == 0


def _fidelity(figures: Figures) -> list[Row]:
    verdicts = {c: (figures.faults(c) or ["identical"])[0] for c in CONTENDERS}
    edits = {
        contender: counted["fidelity_after_edits"]
        for contender, counted in figures.results["counted"].items()
    }
    return [
        Row(
            "fidelity of the first copy",
            **verdicts,
            goal="identical",
            reached=figures.ranked("ours"),
        ),
        Row(
            "fidelity after additions, changes, a removed key, deletions",
            naive=edits["naive"]["text"],
            ours=edits["ours"]["text"],
            goal="identical",
            reached=bool(edits["ours"]["identical"]),
        ),
    ]


def _speed(
    figures: Figures,
    what: str,
    shown: Mapping[str, str],
    ratio: tuple[str, Figure, Figure],
    goal: tuple[str, float],
    *,
    valid: bool = True,
) -> Row:
    """A row of speeds; who is not identical gets no rank, and no ratio is made with it."""
    reference, above, below = ratio
    cells = {c: text if figures.ranked(c) else UNRANKED for c, text in shown.items()}
    if not (figures.ranked(reference, "ours") and valid):
        return Row(what, **cells, ratio=UNRANKED, goal=goal[0], reached=False)
    value = figures.ratio(above, below)
    text = f"{value:,.0f} times" if value >= 10 else f"{value:.2f}"
    return Row(what, **cells, ratio=text, goal=goal[0], reached=value >= goal[1])


def _speeds(figures: Figures) -> list[Row]:
    raw, naive, rerun = map(seconds_of, ("raw_copy", "naive_copy", "naive_rerun"))
    read, reread, walk = (
        seconds_of("raw_read"),
        cycle_seconds("ours_reread"),
        cycle_seconds("ours_walk"),
    )
    whole = all(c["read"] == figures.records for c in _cycles(figures, "ours_reread"))
    none = all(c["read"] == 0 for c in _cycles(figures, "ours_walk"))
    again, our_reread = _seconds(figures, rerun), _seconds(figures, reread)
    return [
        _speed(
            figures,
            "first copy, records a second",
            {
                "raw": _rate(figures, raw),
                "naive": _rate(figures, naive),
                "ours": _rate(figures, copy_seconds),
            },
            ("raw", raw, copy_seconds),
            ("≥ 0.90 of raw", 0.90),
        ),
        _speed(
            figures,
            "unchanged, everything read again",
            {"naive": again, "ours": our_reread},
            ("naive", rerun, reread),
            ("≥ 20 times", 20),
            valid=whole,
        ),
        _speed(
            figures,
            "unchanged, ids only",
            {"naive": again, "ours": _seconds(figures, walk)},
            ("naive", rerun, walk),
            ("≥ 300 times", 300),
            valid=none,
        ),
        _speed(
            figures,
            "reading everything, against undecoded requests",
            {"raw": _seconds(figures, read), "ours": our_reread},
            ("raw", read, reread),
            ("≥ 0.90 of raw", 0.90),
            valid=whole,
        ),
    ]


def _change(figures: Figures) -> list[Row]:
    rerun, change = seconds_of("naive_rerun"), cycle_seconds("ours_change")
    copied = figures.traffic("ours", "copy", "replica")["bytes_sent"]
    changed = figures.traffic("ours", "change", "replica")["bytes_sent"]
    share = changed / max(1, copied)
    naive = figures.traffic("naive", "unchanged", "replica")["bytes_sent"]
    naive_share = naive / max(1, figures.traffic("naive", "copy", "replica")["bytes_sent"])
    return [
        Row(
            "metadata of 1 % changed",
            naive=_seconds(figures, rerun) if figures.ranked("naive") else UNRANKED,
            ours=_seconds(figures, change) if figures.ranked("ours") else UNRANKED,
            ratio=f"{figures.ratio(rerun, change):,.0f} times"
            if figures.ranked("naive", "ours")
            else UNRANKED,
        ),
        Row(
            "bytes to the replica for it, of a full copy",
            naive=f"{naive_share:.0%}",
            ours=f"{share:.2%}",
            goal="≤ 5 %",
            reached=share <= 0.05,
        ),
    ]


def _traffic(figures: Figures) -> list[Row]:
    writes = _needless_writes(figures)
    rows = [
        Row(
            "writes in an unchanged cycle",
            naive=f"{figures.traffic('naive', 'unchanged', 'replica')['writes']:,}",
            ours=f"{writes:,}",
            goal="0",
            reached=writes == 0,
        )
    ]
    scale = 1000 / int(figures.results["counted_records"])
    for phase, what in (("copy", "first copy"), ("unchanged", "unchanged, everything read again")):
        for side, way in (("primary", "bytes_received"), ("replica", "bytes_sent")):
            word = "from the primary" if side == "primary" else "to the replica"
            naive, ours = (
                _volume(figures.traffic(contender, phase, side), way, scale)
                for contender in ("naive", "ours")
            )
            rows.append(Row(f"{what}: {word}, for 1,000 records", naive=naive, ours=ours))
    return rows


def _volume(traffic: Mapping[str, int], way: str, scale: float) -> str:
    requests = traffic["requests"] * scale
    return f"{traffic[way] * scale / 1e6:,.2f} MB in {requests:,.1f} requests"


def _needless_writes(figures: Figures) -> int:
    sides = ("primary", "replica")
    phases = ("settle", "unchanged", "walk")
    return sum(figures.traffic("ours", p, side)["writes"] for p in phases for side in sides)


def _resources(figures: Figures) -> list[Row]:
    def cpu(name: str) -> Figure:
        return lambda round_: median(cycle["cpu_seconds"] for cycle in round_[name]["cycles"])

    def plain(name: str, key: str) -> Figure:
        return lambda round_: float(round_[name][key])

    def pair(what: str, naive: Figure, ours: Figure, unit: str) -> Row:
        a, b = figures.middle(naive), figures.middle(ours)
        form = "{:,.0f} " if unit == "MB" else "{:,.2f} "
        return Row(what, naive=(form + unit).format(a), ours=(form + unit).format(b))

    return [
        pair("CPU, first copy", plain("naive_copy", "cpu_seconds"), cpu("ours_copy"), "s"),
        pair("CPU, unchanged", plain("naive_rerun", "cpu_seconds"), cpu("ours_reread"), "s"),
        pair(
            "peak memory",
            plain("naive_copy", "peak_rss_mb"),
            plain("ours_copy", "peak_rss_mb"),
            "MB",
        ),
        pair(
            "start of the interpreter and imports, on top of the times above",
            plain("naive_copy", "start_seconds"),
            plain("ours_copy", "start_seconds"),
            "s",
        ),
    ]


def _cycles(figures: Figures, name: str) -> list[Result]:
    return [cycle for round_ in figures.rounds for cycle in round_[name]["cycles"]]


def _rate(figures: Figures, seconds: Figure) -> str:
    return f"{figures.records / figures.middle(seconds):,.0f}"


def _seconds(figures: Figures, seconds: Figure) -> str:
    value = figures.middle(seconds)
    return (
        f"{value:,.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 1 else f"{value:.3f} s"
    )


# ---- layout ----------------------------------------------------------------------------------


def as_markdown(rows: list[Row]) -> str:
    """The table for the README."""
    lines = [HEADINGS, tuple("---" if i == 0 else "---:" for i in range(len(HEADINGS)))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines + [r.cells for r in rows])


def as_table(rows: list[Row]) -> Table:
    """The table for a terminal."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row.cells)
    return table
