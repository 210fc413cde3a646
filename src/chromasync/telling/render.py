"""Reports for people: tables for collections, sentences for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from chromasync.advice_reports import AdviceReport
from chromasync.documents import Report
from chromasync.model import (
    Cycle,
    CycleStatus,
    Hold,
    OpCounts,
    Quarantined,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.reports import (
    CollectionReport,
    CycleReport,
    DoctorReport,
    ExaminedServer,
    PlannedAction,
    PlannedCollection,
    PlanReport,
    StatusSnapshot,
    VerifiedCollection,
    VerifyReport,
)
from chromasync.telling.advice_text import show_advice
from chromasync.telling.page import Page
from chromasync.wording.concerns import (
    STATES,
    held_words,
    hold_name,
    hold_sentences,
    quarantine_sentence,
)
from chromasync.wording.freshness import (
    NEVER_REREAD,
    headline,
    pause_sentence,
    reread_sentence,
    verdict,
)
from chromasync.wording.words import ago, duration, full_name, number, plain, plural, size

SHOWN_QUARANTINED = 10

ACTIONS = {
    PlannedAction.NONE: "keep",
    PlannedAction.CREATE: "create",
    PlannedAction.ADOPT: "compare and take over",
    PlannedAction.MODIFY: "change its definition",
    PlannedAction.RENAME: "rename",
    PlannedAction.REPLACE: "replace",
    PlannedAction.DROP: "drop",
    PlannedAction.HOLD: "hold",
}


def show(page: Page, report: Report) -> None:
    """Print any report."""
    match report:
        case CycleReport():
            show_cycle(page, report)
        case AdviceReport():
            show_advice(page, report)
        case StatusSnapshot():
            show_status(page, report)
        case PlanReport():
            show_plan(page, report)
        case VerifyReport():
            show_verify(page, report)
        case DoctorReport():
            show_doctor(page, report)
        case _:
            assert_never(report)


# ---- sync ------------------------------------------------------------------------------------


def show_cycle(page: Page, report: CycleReport) -> None:
    """Print the work and the outcome of a cycle."""
    page.table(
        ("Collection", ">Primary", ">Replica", ">Written", ">Deleted", "State"),
        [_cycle_row(collection) for collection in report.collections],
    )
    _show_concerns(page, report.collections, report.holds, report.quarantined, report.warnings)
    if report.never_reread:
        page.say(NEVER_REREAD)
    page.say(_cycle_sentence(report))
    page.say(verdict(report))


def _cycle_row(collection: CollectionReport) -> tuple[str, ...]:
    counts = collection.counts
    written = counts.inserted + counts.updated + counts.replaced
    return (
        _name(collection),
        number(collection.primary_count),
        number(collection.replica_count),
        number(written),
        number(counts.deleted),
        STATES[collection.status],
    )


def _cycle_sentence(report: CycleReport) -> str:
    took = duration(report.duration_seconds)
    done = _ops_words(report.counts) or "nothing had to be written"
    read = plural(report.counts.read, "record")
    return f"Cycle {report.cycle.id} took {took}: {read} read, {done}."


def _ops_words(counts: OpCounts) -> str:
    parts = (
        ("inserted", counts.inserted),
        ("updated", counts.updated),
        ("replaced", counts.replaced),
        ("deleted", counts.deleted),
        ("set aside", counts.quarantined),
    )
    words = ", ".join(f"{number(count)} {word}" for word, count in parts if count)
    if counts.drifted:
        words += f" ({number(counts.drifted)} of them because others had changed the replica)"
    return words


# ---- status ----------------------------------------------------------------------------------


def show_status(page: Page, snapshot: StatusSnapshot) -> None:
    """Print everything that is known without a request to the servers."""
    page.say(headline(snapshot))
    if snapshot.is_paused:
        page.say(pause_sentence(snapshot.control, snapshot.taken_at))
    if snapshot.collections:
        page.say()
        page.table(
            ("Collection", ">Primary", ">Replica", "Identical as of", "State"),
            [_status_row(collection, snapshot.taken_at) for collection in snapshot.collections],
        )
    _show_concerns(
        page, snapshot.collections, snapshot.holds, snapshot.quarantined, snapshot.warnings
    )
    _show_work(page, snapshot)


def _status_row(collection: CollectionReport, now: datetime) -> tuple[str, ...]:
    as_of = collection.identical_as_of
    return (
        _name(collection),
        number(collection.primary_count),
        number(collection.replica_count),
        "never" if as_of is None else ago(as_of, now),
        STATES[collection.status],
    )


def _show_work(page: Page, snapshot: StatusSnapshot) -> None:
    now = snapshot.taken_at
    for cycle in snapshot.cycles[:1]:
        page.say(_cycle_state(cycle, now, deserted=snapshot.is_deserted))
    last = snapshot.last_ended
    if last is not None and last != snapshot.cycles[0] and last.status is CycleStatus.FAILED:
        page.say(_cycle_state(last, now))
    tasks = snapshot.tasks
    if tasks.total:
        page.say(
            f"Tasks: {number(tasks.completed)} completed, {number(tasks.processing)} in work, "
            f"{number(tasks.pending)} pending, {number(tasks.failed)} failed."
        )
    for worker in snapshot.workers:
        if worker.status is not WorkerStatus.STOPPED:
            page.say(_worker_sentence(worker, now))
    if snapshot.cycles:
        page.say(reread_sentence(snapshot))


def _cycle_state(cycle: Cycle, now: datetime, *, deserted: bool = False) -> str:
    done = _ops_words(cycle.counts) or "nothing written"
    state = "was not finished, and no process works on it" if deserted else f"is {cycle.status}"
    if cycle.finished_at is not None:
        state += f" after {duration((cycle.finished_at - cycle.started_at).total_seconds())}"
    why = f" {plain(cycle.error)}" if cycle.error else ""
    return f"Cycle {cycle.id} {state}, started {ago(cycle.started_at, now)}: {done}.{why}"


def _worker_sentence(worker: WorkerBeat, now: datetime) -> str:
    beat = worker.last_heartbeat_at
    seen = "" if beat is None else f", last heard of {ago(beat, now)}"
    task = "" if worker.current_task_id is None else f", on task {worker.current_task_id}"
    slow = f" It is throttled; {plain(worker.throttle_reason)}." if worker.throttle_reason else ""
    return (
        f"Worker {plain(worker.worker_id)} is {worker.status}{task}{seen}: "
        f"{worker.memory_mb:.0f} MB, {worker.cpu_percent:.0f}% CPU.{slow}"
    )


# ---- for sync and status ---------------------------------------------------------------------


def _show_concerns(
    page: Page,
    collections: Sequence[CollectionReport],
    holds: Sequence[Hold],
    quarantined: Sequence[Quarantined],
    warnings: Sequence[str],
) -> None:
    for collection in collections:
        if collection.message:
            page.say(f"{_name(collection)}: {plain(collection.message)}")
    for hold in holds:
        page.say(*hold_sentences(hold, holds))
    names = {collection.collection_id: _name(collection) for collection in collections}
    for record in quarantined[:SHOWN_QUARANTINED]:
        page.say(quarantine_sentence(record, names.get(record.collection_id, "?")))
    if len(quarantined) > SHOWN_QUARANTINED:
        rest = len(quarantined) - SHOWN_QUARANTINED
        page.say(f"{plural(rest, 'more record')} set aside; --json lists them all.")
    _show_notes(page, warnings)


def _show_notes(
    page: Page, warnings: Sequence[str], failed: str = "", failures: Sequence[str] = ()
) -> None:
    for warning in warnings:
        page.say(f"Note: {plain(warning)}")
    for failure in failures:
        page.say(f"{failed}: {plain(failure)}")


def show_approval(page: Page, approved: Sequence[Hold]) -> None:
    """Print the approved holds."""
    if not approved:
        page.say("Nothing is held; there was nothing to approve.")
    for hold in approved:
        what = held_words(hold)
        page.say(f"Approved for {hold_name(hold)}: {what}.")
    if approved:
        page.say("The next cycle carries it out, once.")


# ---- plan ------------------------------------------------------------------------------------


def show_plan(page: Page, report: PlanReport) -> None:
    """Print what a cycle would do."""
    page.table(
        ("Collection", "Would", ">Create", ">Update", ">Delete", ">Same", ">To send"),
        [_plan_row(collection) for collection in report.collections],
    )
    for collection in report.collections:
        if collection.reason:
            held = "held: " if collection.held else ""
            page.say(f"{_name(collection)}: {held}{plain(collection.reason)}")
    _show_notes(page, report.warnings, "Not planned", report.failures)
    page.say(_plan_sentence(report), "Nothing was written.")


def _plan_row(collection: PlannedCollection) -> tuple[str, ...]:
    return (
        _name(collection),
        ACTIONS[collection.action],
        number(collection.create),
        number(collection.update),
        number(collection.delete),
        number(collection.same),
        size(collection.bytes),
    )


def _plan_sentence(report: PlanReport) -> str:
    if report.is_idle:
        return "A cycle would change nothing."
    create = sum(c.create for c in report.collections)
    update = sum(c.update for c in report.collections)
    held = sum(c.held_count for c in report.collections)
    delete = sum(c.delete for c in report.collections) - held
    return (
        f"A cycle would create {number(create)}, update {number(update)} and delete "
        f"{plural(delete, 'record')}: {size(report.bytes)}, about "
        f"{duration(report.expected_seconds)}."
        + (f" It would hold {plural(held, 'delete')}." if held else "")
    )


# ---- verify ----------------------------------------------------------------------------------


def show_verify(page: Page, report: VerifyReport) -> None:
    """Print how the two sides compare; one line per finding, with its sigil."""
    asked = any(c.queries or c.answers_differ for c in report.collections)
    heads = ("Collection", ">Same", ">Missing", ">Extra", ">Changed", ">Inconclusive", "Definition")
    page.table(
        (*heads, *[">Answers"] * asked),
        [
            (
                full_name(c.tenant, c.database, c.name),
                *map(number, (c.same, c.missing, c.extra, c.changed, c.inconclusive)),
                "differs" if c.definition_differs else "same",
                *[_answers(c)] * asked,
            )
            for c in report.collections
        ],
    )
    _show_findings(page, report)
    if report.repair is not None:
        repair = report.repair
        _show_concerns(page, repair.collections, repair.holds, repair.quarantined, repair.warnings)
    _show_notes(page, report.warnings, "Not compared", report.failures)
    page.say(_verify_sentence(report))


def _answers(collection: VerifiedCollection) -> str:
    """Similarity of the answers: the share of the nearest records that both sides return."""
    share = "" if collection.overlap is None else f"{collection.overlap:.0%} alike"
    return f"{share}, differ".removeprefix(", ") if collection.answers_differ else share


def _show_findings(page: Page, report: VerifyReport) -> None:
    for finding in report.findings:
        name = full_name(finding.tenant, finding.database, finding.collection)
        record = "" if finding.record_id is None else f' "{plain(finding.record_id)}"'
        page.say(f"{finding.sigil} {name}{record}: {plain(finding.what)}")
    listed = sum(finding.record_id is not None for finding in report.findings)
    found = sum(c.missing + c.extra + c.changed + c.inconclusive for c in report.collections)
    if found > listed:
        page.say(f"... and {number(found - listed)} more; the counts above are complete.")


def _verify_sentence(report: VerifyReport) -> str:
    records = sum(c.same + c.missing + c.changed + c.inconclusive for c in report.collections)
    extent = plural(records, "record")
    if report.sample_percent < 100:
        extent += f", a sample of {report.sample_percent:g}%,"
    took = f"compared in {duration(report.duration_seconds)}"
    if report.different:
        state = "Still different after the repair" if report.repaired else "Different"
        return f"{state}: {plural(report.different, 'difference')} in {extent} {took}."
    if report.inconclusive:
        return (
            f"Inconclusive: {_why_inconclusive(report)} {extent} {took}, the others are the same."
        )
    state = "Repaired, and now the same" if report.repaired else "Same"
    if report.failures:
        state += ", except the parts that were not compared"
    return f"{state}: {extent} {took}."


def _why_inconclusive(report: VerifyReport) -> str:
    """Counts of records that changed meanwhile, and of records that the primary cannot return."""
    changed = report.inconclusive - report.unreadable
    parts = [f"{plural(changed, 'record')} changed during the comparison."] if changed else []
    if report.unreadable:
        parts.append(f"{plural(report.unreadable, 'record')} cannot be read on the primary.")
    return " ".join(parts)


# ---- doctor ----------------------------------------------------------------------------------


def show_doctor(page: Page, report: DoctorReport) -> None:
    """Print every check with its result, and every setting with its origin."""
    page.say(f"chromasync {report.version} on Python {report.python_version}, role {report.role}.")
    page.say()
    for check in report.checks:
        page.say(f"{'ok   ' if check.ok else 'WRONG'} {check.name}: {plain(check.detail)}")
    for server in report.servers:
        _show_server(page, server)
    schema = report.schema_version
    known = "its schema version is not known" if schema is None else f"schema version {schema}"
    page.say(f"The state store is {plain(report.store)}; {known}.")
    page.say()
    page.table(
        ("Setting", "Value", "From"),
        [(line.name, plain(line.value), line.origin) for line in report.settings],
    )
    wrong = sum(not check.ok for check in report.checks)
    page.say("All is well." if not wrong else f"{plural(wrong, 'check')} failed; see WRONG above.")


def _show_server(page: Page, server: ExaminedServer) -> None:
    can = server.capabilities
    if can is None:
        page.say(f"The {server.side} at {plain(server.url)} gave no usable answer.")
        return
    able = [
        word
        for word, there in (
            ("base64 embeddings", can.base64),
            ("schemas", can.schema),
            ("configurations", can.configuration),
            ("array metadata", can.arrays),
        )
        if there
    ]
    takes = ", ".join(able) or "only the basics"
    page.say(
        f"The {server.side} at {plain(server.url)} says it is Chroma {plain(can.version)}; it "
        f"takes {takes}, and at most {plural(can.max_batch_size, 'record')} in one write."
    )
    for limitation in can.limitations:
        page.say(f"  {plain(limitation)}")


def _name(collection: CollectionReport | PlannedCollection) -> str:
    return full_name(collection.tenant, collection.database, collection.name)
