"""Turns what was measured into the table: fidelity first, then ratios with their goals beside them.

Speeds depend on the machine; ratios of things measured in the same round hardly do. Goals are
ratios to *raw requests*, which are as fast as the server is. The naive loop is shown beside, and
decides nothing: its speed is the replica's.
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
HEADINGS = ("", "raw requests", "naive loop", "chromasync", "ratio", "goal", "reached")
UNRANKED = "not ranked"
NONE = "-"
COPY_GOAL, READ_GOAL, CPU_GOAL, PEAK_GOAL_MB, BYTES_GOAL = 0.95, 0.90, 0.15, 200, 0.05


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


def own_cpu(name: str) -> Figure:
    """Median CPU seconds of our process in the cycles of one measurement."""
    return lambda round_: median(cycle["cpu_seconds"] for cycle in round_[name]["cycles"])


def server_cpu(name: str) -> Figure:
    """CPU seconds of both servers for one cycle of a measurement."""
    return lambda round_: (
        (round_[name]["primary_cpu_seconds"] + round_[name]["replica_cpu_seconds"])
        / len(round_[name]["cycles"])
    )


def seconds_of(name: str) -> Figure:
    """Seconds of a measurement of another contender."""
    return lambda round_: float(round_[name]["seconds"])


def raw_seconds(batch: str) -> Figure:
    """Seconds of a raw copy with requests of so many records."""
    return lambda round_: float(round_["raw_copies"][batch]["seconds"])


@dataclass(frozen=True, slots=True)
class Figures:
    """The results for records of one shape, with the questions the table asks of them."""

    results: Result

    @property
    def rounds(self) -> list[Result]:
        """One result per round."""
        return list(self.results["rounds"])

    @property
    def records(self) -> int:
        """Records on the primary."""
        return int(self.results["records"])

    @property
    def has_naive(self) -> bool:
        """Whether the naive loop took part."""
        return "naive_copy" in self.rounds[0]

    @property
    def batches(self) -> list[str]:
        """Records in a request of each raw contender."""
        return sorted(self.rounds[0]["raw_copies"], key=int)

    @property
    def best_raw(self) -> Figure:
        """The raw copy with the best median."""
        return min(map(raw_seconds, self.batches), key=self.middle)

    def middle(self, figure: Figure) -> float:
        """The median over the rounds."""
        return median(figure(round_) for round_ in self.rounds)

    def ratio(self, above: Figure, below: Figure) -> float:
        """The median of the ratios within each round."""
        return self.middle(lambda round_: above(round_) / max(below(round_), 1e-9))

    def faults(self, contender: str) -> list[str]:
        """What the judge found against a contender, over all rounds."""
        match contender:
            case "raw":
                runs = [copy for r in self.rounds for copy in r["raw_copies"].values()]
            case "naive" | "pipes":
                runs = [r[f"{contender}_copy"] for r in self.rounds]
            case _:
                runs = [r[name] for r in self.rounds for name in ("ours_copy", "ours_change")]
        verdicts = [run["fidelity"] for run in runs]
        return [verdict["text"] for verdict in verdicts if not verdict["identical"]]

    def ranked(self, *contenders: str) -> bool:
        """Whether all of them were identical in every round."""
        return not any(self.faults(contender) for contender in contenders)

    def cycles(self, name: str) -> list[Result]:
        """All cycles of one of our measurements."""
        return [cycle for round_ in self.rounds for cycle in round_[name]["cycles"]]


def rows_of(results: Result) -> list[Row]:
    """The whole table."""
    rows = []
    for shape in results["shapes"]:
        figures = Figures(shape)
        rows += [
            Row(f"**{shape['name']}**, {figures.records:,} records", raw="", naive="", ours=""),
            _fidelity(figures),
            *_speeds(figures),
            *_pipes(figures),
            *_resources(figures),
        ]
    counted = Row("**counted through proxies**", raw="", naive="", ours="")
    return [*rows, counted, *_counted(results)]


def is_sound(results: Result) -> bool:
    """Whether ours was identical each time and wrote nothing in unchanged cycles."""
    edits = results["counted"]["ours"]["fidelity_after_edits"]
    ranked = all(Figures(shape).ranked("ours") for shape in results["shapes"])
    return ranked and bool(edits["identical"]) and _needless_writes(results) == 0


def _fidelity(figures: Figures) -> Row:
    def verdict(contender: str) -> str:
        return (figures.faults(contender) or ["identical"])[0]

    return Row(
        "fidelity",
        raw=verdict("raw"),
        naive=verdict("naive") if figures.has_naive else NONE,
        ours=verdict("ours"),
        goal="identical",
        reached=figures.ranked("ours"),
    )


def _speeds(figures: Figures) -> list[Row]:
    rate, seconds = _rate, _seconds
    naive, rerun, walk = seconds_of("naive_copy"), seconds_of("naive_rerun"), "ours_walk"
    read, reread = seconds_of("raw_read"), cycle_seconds("ours_reread")
    whole = all(c["read"] == figures.records for c in figures.cycles("ours_reread"))
    none = all(c["read"] == 0 for c in figures.cycles(walk))
    per_batch = " · ".join(
        f"{rate(figures, raw_seconds(batch))} ({int(batch):,} a request)"
        for batch in figures.batches
    )

    def by_naive(figure: Figure, form: Callable[[Figures, Figure], str]) -> str:
        if not figures.has_naive:
            return NONE
        return form(figures, figure) if figures.ranked("naive") else UNRANKED

    def ours(figure: Figure, form: Callable[[Figures, Figure], str], *, valid: bool = True) -> str:
        return form(figures, figure) if figures.ranked("ours") and valid else UNRANKED

    return [
        _against_raw(
            figures,
            Row(
                "first copy, records a second",
                raw=per_batch,
                naive=by_naive(naive, rate),
                ours=ours(copy_seconds, rate),
            ),
            (figures.best_raw, copy_seconds, COPY_GOAL),
        ),
        _against_raw(
            figures,
            Row(
                "unchanged, everything read again",
                raw=seconds(figures, read),
                naive=by_naive(rerun, seconds),
                ours=ours(reread, seconds, valid=whole),
            ),
            (read, reread, READ_GOAL),
            valid=whole,
        ),
        Row("unchanged, ids only", ours=ours(cycle_seconds(walk), seconds, valid=none)),
        Row("metadata of 1 % changed", ours=ours(cycle_seconds("ours_change"), seconds)),
    ]


def _pipes(figures: Figures) -> list[Row]:
    """The copy of chromadb-data-pipes, for information: what the judge says, or else its speed."""
    if "pipes_copy" not in figures.rounds[0]:
        return []
    faults = figures.faults("pipes")
    told = f"{faults[0]}: {UNRANKED}" if faults else _rate(figures, seconds_of("pipes_copy"))
    return [Row("first copy by chromadb-data-pipes (export, import)", naive=told)]


def _against_raw(
    figures: Figures, row: Row, compared: tuple[Figure, Figure, float], *, valid: bool = True
) -> Row:
    """The row with its ratio; who is not identical gets none."""
    above, below, goal = compared
    words = f"≥ {goal:.2f} of raw"
    if not (figures.ranked("raw", "ours") and valid):
        return Row(row.what, row.raw, row.naive, row.ours, UNRANKED, words, reached=False)
    value = figures.ratio(above, below)
    reached = value >= goal
    return Row(row.what, row.raw, row.naive, row.ours, f"{value:.2f}", words, reached)


def _resources(figures: Figures) -> list[Row]:
    def peak(name: str) -> float:
        return figures.middle(lambda round_: float(round_[name]["peak_rss_mb"]))

    def cpu(what: str, name: str, goal: float | None) -> Row:
        share = figures.ratio(own_cpu(name), server_cpu(name))
        own, theirs = figures.middle(own_cpu(name)), figures.middle(server_cpu(name))
        return Row(
            f"CPU, {what}",
            ours=f"{own:.2f} s beside {theirs:.2f} s of the servers",
            ratio=f"{share:.0%}",
            goal="" if goal is None else f"≤ {goal:.0%} of the servers'",
            reached=None if goal is None else share <= goal,
        )

    most = max(peak("ours_copy"), peak("ours_reread"))
    return [
        cpu("first copy", "ours_copy", None),
        cpu("everything read again", "ours_reread", CPU_GOAL),
        Row(
            "peak memory",
            naive=f"{peak('naive_copy'):,.0f} MB" if figures.has_naive else NONE,
            ours=f"{most:,.0f} MB",
            goal=f"≤ {PEAK_GOAL_MB} MB",
            reached=most <= PEAK_GOAL_MB,
        ),
    ]


# ---- what was counted through proxies --------------------------------------------------------


def _traffic_of(results: Result, contender: str, phase: str, side: str) -> Mapping[str, int]:
    counted: Mapping[str, int] = results["counted"][contender][phase][side]
    return counted


def _counted(results: Result) -> list[Row]:
    edits = {
        contender: counted["fidelity_after_edits"]
        for contender, counted in results["counted"].items()
    }
    copied = _traffic_of(results, "ours", "copy", "replica")["bytes_sent"]
    changed = _traffic_of(results, "ours", "change", "replica")["bytes_sent"]
    share = changed / max(1, copied)
    again = _traffic_of(results, "naive", "unchanged", "replica")
    writes = _needless_writes(results)
    return [
        Row(
            "fidelity after additions, changes, a removed key, deletions",
            naive=edits["naive"]["text"],
            ours=edits["ours"]["text"],
            goal="identical",
            reached=bool(edits["ours"]["identical"]),
        ),
        Row(
            "bytes to the replica for metadata of 1 %, of a full copy",
            naive="100%",
            ours=f"{share:.2%}",
            goal=f"≤ {BYTES_GOAL:.0%}",
            reached=share <= BYTES_GOAL,
        ),
        Row(
            "writes in an unchanged cycle",
            naive=f"{again['writes']:,}",
            ours=f"{writes:,}",
            goal="0",
            reached=writes == 0,
        ),
        *_volumes(results),
    ]


def _volumes(results: Result) -> list[Row]:
    scale = 1000 / int(results["counted_records"])
    rows = []
    for phase, what in (("copy", "first copy"), ("unchanged", "unchanged, everything read again")):
        for side, way in (("primary", "bytes_received"), ("replica", "bytes_sent")):
            word = "from the primary" if side == "primary" else "to the replica"
            naive, ours = (
                _volume(_traffic_of(results, contender, phase, side), way, scale)
                for contender in ("naive", "ours")
            )
            rows.append(Row(f"{what}: {word}, for 1,000 records", naive=naive, ours=ours))
    return rows


def _volume(traffic: Mapping[str, int], way: str, scale: float) -> str:
    requests = traffic["requests"] * scale
    return f"{traffic[way] * scale / 1e6:,.2f} MB in {requests:,.1f} requests"


def _needless_writes(results: Result) -> int:
    phases = ("settle", "unchanged", "walk")
    sides = ("primary", "replica")
    return sum(_traffic_of(results, "ours", p, side)["writes"] for p in phases for side in sides)


def _rate(figures: Figures, seconds: Figure) -> str:
    return f"{figures.records / figures.middle(seconds):,.0f}"


def _seconds(figures: Figures, seconds: Figure) -> str:
    value = figures.middle(seconds)
    return (
        f"{value:,.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 1 else f"{value:.3f} s"
    )


# ---- layout ----------------------------------------------------------------------------------


def as_markdown(rows: list[Row]) -> str:
    """The table for a page."""
    lines = [HEADINGS, tuple("---" if i == 0 else "---:" for i in range(len(HEADINGS)))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines + [r.cells for r in rows])


def as_table(rows: list[Row]) -> Table:
    """The table for a terminal."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("**", "") for cell in row.cells))
    return table
