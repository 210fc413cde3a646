"""The command `promote`: makes the replica the primary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chromasync.cli import composition
from chromasync.cli.commands import program
from chromasync.cli.invoking import long_work, prepare
from chromasync.cli.options import FiniteRange, GroupedHelp, Invocation, common_options, examples
from chromasync.cli.steer import show_lines

if TYPE_CHECKING:
    from chromasync.failover_reports import PromotedCollection, PromoteReport

SHOWN = 20
"""Collections that are listed; `--json` has all."""

NEXT = (
    "Point the applications to it. No process of this store writes to it any more. To mirror it, "
    "set PRIMARY_URL to it, and REPLICA_URL to the former primary or a new server."
)


@program.command(
    cls=GroupedHelp,
    epilog=examples("chromasync promote --wait-for-fence", "chromasync promote"),
)
@click.option(
    "--wait-for-fence",
    is_flag=True,
    help="Switchover: first wait until everything is on the replica, and compare every record.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    metavar="SECONDS",
    type=FiniteRange(0, min_open=True),
    help="Longest wait for the fence.",
)
@click.option("--anyway", is_flag=True, help="Fail over although the primary answers.")
@click.option("--cancel", is_flag=True, help="Let the replica follow again after an interruption.")
@common_options
def promote(
    invocation: Invocation,
    *,
    wait_for_fence: bool,
    timeout_seconds: float | None,
    anyway: bool,
    cancel: bool,
) -> int:
    """Make the replica the primary.

    With --wait-for-fence it is a switchover, and nothing is lost: stop the applications' writes
    first. Without it, it is a failover, for a primary that is dead: what was not copied yet is
    lost, and the output says of each collection as of when it is identical. In both cases, no
    process of this store writes to the replica from then on, whatever comes back.
    """
    if cancel and (wait_for_fence or anyway):
        raise click.UsageError("--cancel goes with no other option.")
    if cancel:
        settings = prepare(invocation, servers=False)
        with composition.open_program(settings) as application:
            report = application.cancel_promotion()
        return _show(invocation, report)
    if wait_for_fence and anyway:
        raise click.UsageError("--anyway is for a failover, which waits for no fence.")
    return long_work(
        invocation,
        lambda app, progress: app.promote(
            progress,
            wait_for_fence=wait_for_fence,
            timeout_seconds=timeout_seconds,
            anyway=anyway,
        ),
        _show,
    )


def _show(invocation: Invocation, report: PromoteReport) -> int:
    from chromasync.failover_reports import PromoteOutcome
    from chromasync.wording.words import plain

    url = plain(report.direction.url or "")
    match report.outcome:
        case PromoteOutcome.PROMOTED:
            kind = "Switchover" if report.direction.planned else "Failover"
            first = f"{kind}: the replica {url} is the primary now."
            lines = [first, *_loss(report), NEXT]
        case PromoteOutcome.ALREADY:
            lines = [f"The replica {url} was promoted before.", NEXT]
        case PromoteOutcome.CANCELLED:
            lines = ["The replica follows again."]
        case PromoteOutcome.NOT_BEGUN:
            lines = ["No unfinished promotion was found, so nothing was changed."]
        case _:
            lines = [f"The replica was not promoted, and follows on. {plain(report.reason)}"]
    return show_lines(invocation, report, [*lines, *map(plain, report.warnings)])


def _loss(report: PromoteReport) -> list[str]:
    """What may be missing on the promoted replica, by collection."""
    if report.direction.planned:
        return ["Every record was compared after the last write: nothing is lost."]
    shown = [_as_of(c, report) for c in report.collections[:SHOWN]]
    left = len(report.collections) - len(shown)
    more = [f"  and {left:,} more, see --json"] if left > 0 else []
    return ["Changes of the former primary after these instants may be missing:", *shown, *more]


def _as_of(one: PromotedCollection, report: PromoteReport) -> str:
    from chromasync.model import MirrorStatus
    from chromasync.wording.words import ago, moment, plain, plural

    name = plain(f"{one.tenant}/{one.database}/{one.name}")
    records = plural(one.replica_count, "record")
    known = one.identical_as_of
    if one.unsure:
        return f"  {name}: unknown, see below ({records})"
    if known is None:
        return f"  {name}: never copied whole ({records}, {one.status})"
    notes = [records]
    notes += ["some with parts missing"] if one.status is MirrorStatus.LIMITED else []
    notes += [f"{plural(one.held, 'record')} held"] if one.held else []
    notes += [f"{plural(one.quarantined, 'record')} quarantined"] if one.quarantined else []
    return f"  {name}: {moment(known)}, {ago(known, report.taken_at)} ({', '.join(notes)})"
