"""The command `restore`: the replica's content to a new, empty server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from chromasync.cli.commands import program
from chromasync.cli.invoking import long_work, print_out
from chromasync.cli.options import GroupedHelp, Invocation, common_options, examples
from chromasync.cli.steer import show_result

if TYPE_CHECKING:
    from chromasync.failover_reports import RestoreReport


@program.command(
    cls=GroupedHelp,
    epilog=examples(
        "chromasync restore --to http://new:8000",
        "chromasync restore --to http://new:8000 --collection docs --collection wares",
    ),
)
@click.option(
    "--to",
    metavar="URL",
    required=True,
    help="The new server, which must have no collection; or a new folder.",
)
@click.option(
    "--collection",
    "names",
    metavar="NAME",
    multiple=True,
    help="Copy only this collection, in each database that has it; may be repeated.",
)
@common_options
def restore(invocation: Invocation, *, to: str, names: tuple[str, ...]) -> int:
    """Copy the replica's content to a new, empty server, or to a new folder.

    Every record is then compared on both servers, and queries are sent to both. It ends with 0 only
    if they are identical; then the new server can be PRIMARY_URL, and the next cycle copies
    nothing. All processes of this state store are paused meanwhile. An interrupted restore goes on
    when the command is repeated. The new server gets the token, headers and certificates of
    PRIMARY_TOKEN, PRIMARY_HEADERS and so on.
    """
    return long_work(
        invocation,
        lambda app, progress: app.restore(progress, to, names),
        _show_restore,
        servers=False,
    )


def _show_restore(invocation: Invocation, report: RestoreReport) -> int:
    if not invocation.as_json and not invocation.quiet:
        print_out(lambda: _show_collections(report))
    return show_result(invocation, report, _extent(report), _what_next(report))


def _show_collections(report: RestoreReport) -> None:
    from chromasync.cli.page import Page
    from chromasync.wording.words import full_name, number, plain

    page = Page()
    page.table(
        ("Collection", ">Same", ">Different", ">Inconclusive", ">Queries"),
        [
            (
                full_name(c.tenant, c.database, c.name),
                *map(number, (c.records, c.different, c.inconclusive, c.queries)),
            )
            for c in report.collections
        ],
    )
    for warning in report.warnings:
        page.say(plain(warning))
    sys.stdout.flush()


def _extent(report: RestoreReport) -> str:
    from chromasync.wording.words import duration, plain, plural

    records = sum(c.records for c in report.collections)
    extent = f"{plural(records, 'record')} in {plural(len(report.collections), 'collection')}"
    took = f"{plural(report.written, 'record')} written in {duration(report.duration_seconds)}"
    url = plain(report.url)
    if not report.is_identical:
        return f"{url} is not identical to the replica; the same so far: {extent} ({took})."
    return f"{url} is identical to the replica, record by record and by queries: {extent} ({took})."


def _what_next(report: RestoreReport) -> str:
    from chromasync.config import folder_of
    from chromasync.wording.words import plain, plural

    url = plain(report.url)
    if not report.is_identical:
        return (
            "Repeat the command to go on; for details, run: "
            f"chromasync verify --primary {url} --replica {plain(report.replica_url)}"
        )
    if report.left_out:
        left = plural(len(report.left_out), "collection")
        return (
            f"Left out: {left} of the replica. If they are mirrored, restore them, too, before you "
            f"make {url} the primary: a cycle would take them for dropped."
        )
    if report.recorded and (folder := folder_of(report.url)):
        return (
            f"Start a server on it (`chroma run --path {plain(str(folder))}`), set PRIMARY_URL to "
            "its URL, and restart the service; the next cycle copies nothing."
        )
    if report.recorded:
        return f"Set PRIMARY_URL={url} and restart the service; the next cycle copies nothing."
    return ""
