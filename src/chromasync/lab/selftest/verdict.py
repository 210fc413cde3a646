"""The verdict: equal counts and contents, by three comparisons without a ledger."""

from __future__ import annotations

from collections.abc import Sequence

from chromasync.lab.selftest import official
from chromasync.lab.selftest.acts import Subject
from chromasync.lab.selftest.compare import differences, find
from chromasync.lab.selftest.report import DIFFERENT, SelftestReport
from chromasync.lab.selftest.stage import Say, Stage
from chromasync.quiet import Quiet
from chromasync.reports import Finding
from chromasync.verify import Verifier

SHOWN = 10


def judge_sides(
    stage: Stage, subjects: Sequence[Subject], say: Say, report: SelftestReport
) -> bool:
    """Compare both sides; returns whether all comparisons find the expected content on both."""
    verdicts = [
        _verify(stage, say, report),
        _read(stage, subjects, say, report),
        _ask_official_client(stage, say, report),
    ]
    return all(verdicts)


def _verify(stage: Stage, say: Say, report: SelftestReport) -> bool:
    """The result of `chromasync verify`."""
    sides = stage.primary, stage.replica
    verified = Verifier(*sides, stage.only_ours, trials={stage.prefix}).verify(Quiet())
    report.verified = sum(collection.same for collection in verified.collections)
    say(
        f"Verify: {report.verified} records are the same on both sides, {verified.different} "
        f"different, {verified.inconclusive} inconclusive."
    )
    for finding in verified.findings[:SHOWN]:
        report.note(_sentence(finding), DIFFERENT)
    return verified.exit_code == 0


def _read(stage: Stage, subjects: Sequence[Subject], say: Say, report: SelftestReport) -> bool:
    """The result of a plain comparison of both sides with the records written to the primary."""
    found = []
    for side in (stage.primary, stage.replica):
        for subject in subjects:
            name = subject.collection.name
            collection = find(side, name, (stage.tenant, stage.database))
            if collection is None:
                found.append(f"The {side.side} has no collection {name}.")
            else:
                found += differences(side, collection, subject.truth)
    for sentence in found:
        report.note(sentence, DIFFERENT)
    if not found:
        count = sum(len(subject.truth.records) for subject in subjects)
        say(f"Contents: each side counts {count} records and holds each of them as given.")
    return not found


def _ask_official_client(stage: Stage, say: Say, report: SelftestReport) -> bool:
    if not official.is_able(stage):
        say("Official client: not installed here, or not able to reach these servers; not asked.")
        return True
    try:
        opinion = official.ask(stage, report.collections)
    except Exception as error:  # noqa: BLE001 -- what it raises has no base in common
        say(f"Official client: it could not be asked ({type(error).__name__}: {error}).")
        return True
    say(f"Official client: {opinion.records} records read on both sides, {opinion}.")
    for example in opinion.examples:
        report.note(f"The official client sees a difference ({example}).", DIFFERENT)
    return opinion.identical


def _sentence(finding: Finding) -> str:
    record = "" if finding.record_id is None else f", record {finding.record_id}"
    return f"{finding.collection}{record}: {finding.what} ({finding.sigil.value})."
