"""The command `advise`."""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from chromasync.cli import composition
from chromasync.cli.commands import program
from chromasync.cli.exits import ExitCode
from chromasync.cli.invoking import prepare, print_out, print_report
from chromasync.cli.options import GroupedHelp, Invocation, common_options, examples

UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
MOST_DOCUMENTS = 100_000_000_000


class Count(click.ParamType[int]):
    """A number of documents, such as 250000, 500k or 2.5M."""

    name = "documents"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; fails like any other wrong value."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(
            r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([kmb]?)", str(value).replace("_", "").lower()
        )
        count = round(float(found[1]) * UNITS[found[2]]) if found else 0
        if not 1 <= count <= MOST_DOCUMENTS:
            self.fail(
                f"{value!r} is not a number of documents, such as 250000, 500k or 10M.", param, ctx
            )
        return count


@program.command(
    cls=GroupedHelp,
    epilog=examples(
        "chromasync advise",
        "chromasync advise --at 10M",
        "chromasync advise --at 2M --dimension 1536 --text-bytes 4000",
        "chromasync advise --table > table.toml",
    ),
)
@click.option(
    "--at",
    "documents",
    metavar="COUNT",
    type=Count(),
    help="Also forecast what so many documents would take, such as 500k or 10M.",
)
@click.option(
    "--dimension",
    metavar="N",
    type=click.IntRange(1, 65_536),
    help="With --at: numbers in an embedding (default: as measured).",
)
@click.option(
    "--text-bytes",
    metavar="BYTES",
    type=click.IntRange(0, 100_000_000),
    help="With --at: document, metadata and uri of a record (default: as measured).",
)
@click.option("--table", is_flag=True, help="Print the start values of SYNC_ADVICE_TABLE, as TOML.")
@common_options
def advise(
    invocation: Invocation,
    *,
    documents: int | None,
    dimension: int | None,
    text_bytes: int | None,
    table: bool,
) -> int:
    """Say which phase of the guide fits, and what to change next.

    The advice follows from measured load, growth, cycle time, memory and waiting times, and names
    the bottleneck. It reads the state store only. With --at it forecasts time, memory, disk and
    cost; SYNC_ADVICE_TABLE may name your own thresholds, rates and prices.
    """
    if documents is None and (dimension is not None or text_bytes is not None):
        raise click.UsageError("--dimension and --text-bytes need --at.")
    if table:
        from chromasync.sizing.table import start_text

        print_out(lambda: sys.stdout.write(start_text()))
        return ExitCode.DONE
    settings = prepare(invocation, servers=False, desk=True)
    with composition.open_program(settings) as application:
        report = application.advise(documents, dimension=dimension, text_bytes=text_bytes)
    return print_report(invocation, report)
