from __future__ import annotations

import json
from dataclasses import replace

import pytest

from chromasync.cli.jsonout import Report, encode, error_document, report_document
from chromasync.errors import SettingsError
from chromasync.reports import Outcome
from tests.cli.fakes import cycle_report, doctor_report, plan_report, snapshot, verify_report
from tools.reference import commands_page

REPORTS: dict[str, Report] = {
    "sync": cycle_report(Outcome.HELD),
    "plan": plan_report(),
    "verify": verify_report(),
    "status": snapshot(),
    "doctor": doctor_report(),
}


def paths(value: object, prefix: str = "") -> set[str]:
    """The paths of all fields in a document, as the reference writes them."""
    found: set[str] = set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= paths(inner, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list):
        found |= {f"{prefix}[]"}
        for inner in value:
            found |= paths(inner, f"{prefix}[]")
    else:
        found |= {prefix}
    return found


@pytest.mark.parametrize("command", REPORTS)
def test_every_field_of_a_document_is_in_the_reference(command: str) -> None:
    """What a document holds is what docs/commands.md says."""
    section = commands_page().split(f"### `chromasync {command} --json`")[1].split("###")[0]
    document = json.loads(encode(report_document(command, REPORTS[command])))
    for path in paths(document) - {"command", "version", "exit_code"}:
        assert f"| `{path}` |" in section, path


def test_a_document_has_instants_in_utc_and_words_for_states() -> None:
    """Instants end in Z, states are their published words, counts are numbers."""
    document = json.loads(encode(report_document("sync", cycle_report())))
    assert document["cycle"]["started_at"] == "2030-01-02T12:00:00Z"
    assert document["outcome"] == "identical"
    assert document["collections"][0]["status"] == "identical"
    assert document["counts"]["inserted"] == 1000
    assert document["exit_code"] == 0


def test_verify_prints_what_it_computes_too() -> None:
    """The sums of a comparison are in its document."""
    document = report_document("verify", verify_report())
    assert (document["different"], document["inconclusive"], document["exit_code"]) == (4, 1, 1)


def test_a_document_can_be_one_line() -> None:
    """The lines of --watch hold one document each."""
    assert encode(report_document("status", snapshot()), one_line=True).count("\n") == 1


@pytest.mark.parametrize("one_line", [False, True])
def test_text_that_is_no_utf_8_is_escaped(one_line: bool) -> None:
    """Bytes of a path that are no text stand escaped in errors and in reports."""
    error = SettingsError("There is no é\udcff.toml.")
    document = json.loads(encode(error_document("sync", error, 2), one_line=one_line))
    assert document["error"]["what"] == "There is no é\\udcff.toml."
    report = report_document("doctor", replace(doctor_report(), store="sqlite:///\udcff/x.db"))
    document = json.loads(encode(report, one_line=one_line))
    assert document["store"] == "sqlite:///\\udcff/x.db"
    assert document["settings"][0]["origin"] == "default"
