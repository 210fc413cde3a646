from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chromasync import __version__
from chromasync.cli import composition
from chromasync.config import Origin
from chromasync.errors import (
    AnotherInstance,
    GuardRefusal,
    LeaseLost,
    ServerUnreachable,
    SettingsError,
    StoreUnusable,
)
from chromasync.reports import Outcome
from tests.cli.conftest import Invoke
from tests.cli.fakes import (
    STORE,
    FakeProgram,
    cycle_report,
    empty_snapshot,
    snapshot,
    verify_report,
)

OPEN_PROGRAM = composition.open_program
"""The real one, before a fixture replaces it."""


def test_sync_asks_for_one_cycle_and_ends_with_zero_when_identical(
    invoke: Invoke, fake: FakeProgram
) -> None:
    """`sync` runs one cycle, prints the summary on stdout and closes the program."""
    result = invoke("sync")
    assert result.exit_code == 0
    assert fake.asked == [("sync", False)]
    assert fake.closed
    assert "Identical as of 2030-01-02 12:00:00 UTC" in result.stdout


def test_sync_adopt_passes_the_wish_on(invoke: Invoke, fake: FakeProgram) -> None:
    """`sync --adopt` takes over what the replica had, and nothing else does so."""
    assert invoke("sync", "--adopt").exit_code == 0
    assert invoke("sync").exit_code == 0
    assert [call[-1] == "adopt" for call in fake.asked] == [True, False]


def test_sync_full_reads_everything_again(invoke: Invoke, fake: FakeProgram) -> None:
    """`sync --full` passes the wish on."""
    assert invoke("sync", "--full").exit_code == 0
    assert fake.asked == [("sync", True)]


@pytest.mark.parametrize("outcome", [Outcome.LIMITED, Outcome.HELD, Outcome.FAILED])
def test_a_cycle_that_is_not_identical_ends_with_four(
    invoke: Invoke, fake: FakeProgram, outcome: Outcome
) -> None:
    """Held, set aside and failed cycles are told by the exit code."""
    fake.cycle = cycle_report(outcome)
    assert invoke("sync").exit_code == 4


def test_plan_ends_with_four_when_something_would_be_held(invoke: Invoke) -> None:
    """`plan` prints what a cycle would do and gives the report's exit code."""
    result = invoke("plan")
    assert result.exit_code == 4
    assert "Nothing was written." in result.stdout


def test_verify_passes_its_options_on_and_ends_with_one_on_differences(
    invoke: Invoke, fake: FakeProgram
) -> None:
    """`verify --sample --repair` asks for exactly that; differences give exit code 1."""
    assert invoke("verify", "--sample", "5", "--repair").exit_code == 1
    assert fake.asked == [("verify", 5.0, True)]


def test_a_repair_that_was_held_ends_with_four(invoke: Invoke, fake: FakeProgram) -> None:
    """Someone has to decide: that is more than a difference. A repair that was not held is not."""
    fake.verified = replace(fake.verified, repaired=True, repair=cycle_report(Outcome.HELD))
    result = invoke("verify", "--repair", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["repair"]["holds"][0]["count"] == 500
    fake.verified = replace(fake.verified, repair=cycle_report())
    assert invoke("verify", "--repair").exit_code == 1


def test_verify_of_identical_sides_ends_with_zero(invoke: Invoke, fake: FakeProgram) -> None:
    """No difference and nothing inconclusive is exit code 0."""
    fake.verified = verify_report(different=False)
    result = invoke("verify")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "Same: 100 records compared in 1.5 s."


@pytest.mark.parametrize("share", ["0", "101", "-1", "many", "nan", "inf", "-nan"])
def test_a_sample_outside_its_range_is_a_usage_error(invoke: Invoke, share: str) -> None:
    """The sample is a percentage above 0."""
    result = invoke("verify", "--sample", share)
    assert result.exit_code == 2
    assert "--sample" in result.stderr


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize("command", [("status", "--every"), ("selftest", "--timeout")])
def test_a_time_without_end_or_sense_is_a_usage_error(
    invoke: Invoke, command: tuple[str, str], number: str
) -> None:
    """Seconds are a number that a clock can reach."""
    result = invoke(*command, number)
    assert result.exit_code == 2
    assert command[1] in result.stderr


def test_status_needs_no_server_urls(invoke: Invoke, fake: FakeProgram) -> None:
    """The state store alone answers `status`."""
    fake.shown_status = empty_snapshot()
    result = invoke("status", env={"PRIMARY_URL": "", "REPLICA_URL": ""})
    assert result.exit_code == 1
    assert result.stdout == (f"No cycle has run yet on {STORE}. Start one with: chromasync sync\n")


def test_status_watch_repeats_until_it_is_interrupted(
    invoke: Invoke, fake: FakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status --watch --json` prints one document per line; Ctrl-C ends it with 130."""
    waits = iter([None, None, KeyboardInterrupt()])

    def wait(seconds: float) -> None:
        assert seconds == 0.5
        if (interrupt := next(waits)) is not None:
            raise interrupt

    monkeypatch.setattr("chromasync.cli.commands.time.sleep", wait)
    result = invoke("status", "--watch", "--every", "0.5", "--json")
    assert result.exit_code == 130
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["lag_seconds"] for line in lines] == [12.0] * 3


def test_approve_passes_the_names_on(invoke: Invoke, fake: FakeProgram) -> None:
    """`approve NAME` approves that collection and says what goes through."""
    result = invoke("approve", "old", "older")
    assert result.exit_code == 0
    assert fake.asked == [("approve", ("old", "older"), False)]
    assert "Approved for default_tenant/archive/old: deleting 500 records" in result.stdout


def test_approve_all_approves_everything(invoke: Invoke, fake: FakeProgram) -> None:
    """`approve --all` needs no names, and says so when nothing is held."""
    fake.approved = []
    result = invoke("approve", "--all")
    assert fake.asked == [("approve", (), True)]
    assert result.stdout == "Nothing is held; there was nothing to approve.\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["approve"], "Name the collections to approve, or give --all."),
        (["approve", "old", "--all"], "Give either the names of collections or --all, not both."),
    ],
)
def test_approve_wants_names_or_all(
    invoke: Invoke, fake: FakeProgram, args: list[str], words: str
) -> None:
    """Approving nothing, or names and everything, is a usage error that says which it was."""
    result = invoke(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert fake.asked == []


def test_doctor_reports_an_unreachable_server_as_three(invoke: Invoke) -> None:
    """`doctor` goes through all checks and tells the worst by its exit code."""
    result = invoke("doctor")
    assert result.exit_code == 3
    assert "ok    primary: It answers." in result.stdout
    assert "WRONG replica: No answer." in result.stdout


def test_doctor_sends_a_test_only_when_asked(invoke: Invoke, fake: FakeProgram) -> None:
    """`--alert` sends messages to people, so nothing else does."""
    invoke("doctor")
    invoke("doctor", "--alert")
    assert fake.asked == [("doctor",), ("doctor", "alert")]


def test_run_gives_the_exit_code_of_the_service(invoke: Invoke, fake: FakeProgram) -> None:
    """`run` ends as the service does."""
    fake.run_code = 5
    assert invoke("run").exit_code == 5
    assert fake.asked == [("run", False)]


def test_demo_plays_without_settings(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """`demo --keep` plays the demo and gives its exit code."""
    played: list[bool] = []

    def play(console: object, *, keep: bool) -> int:
        played.append(keep)
        return 0

    monkeypatch.setattr("chromasync.cli.composition.play_demo", play)
    result = invoke("demo", "--keep", "--json", env={"SYNC_NONSENSE": "1"})
    assert result.exit_code == 0
    assert played == [True]
    assert json.loads(result.stdout) == {
        "command": "demo",
        "version": __version__,
        "exit_code": 0,
    }


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (SettingsError("A setting is wrong."), 2),
        (ServerUnreachable("No answer.", side="primary"), 3),
        (LeaseLost("Too late."), 3),
        (StoreUnusable("It is corrupted."), 4),
        (GuardRefusal("Both URLs lead to the same server."), 4),
        (AnotherInstance("Process 7 leads."), 5),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("by zero"), 4),
    ],
)
def test_every_failure_has_its_exit_code_and_no_traceback(
    invoke: Invoke, fake: FakeProgram, trouble: BaseException, code: int
) -> None:
    """A failure is a sentence on stderr; stdout stays empty."""
    fake.trouble = trouble
    result = invoke("sync")
    assert result.exit_code == code
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert (str(trouble) or "Interrupted.") in result.stderr
    assert fake.closed


def test_an_error_says_what_is_untouched_and_what_to_do(invoke: Invoke, fake: FakeProgram) -> None:
    """The three sentences of an error are printed one after the other."""
    fake.trouble = GuardRefusal("It is empty.", untouched="No record was deleted.", hint="Wait.")
    result = invoke("sync", "--quiet")
    assert result.stderr == "Error: It is empty. No record was deleted. Wait.\n"


def test_json_errors_are_documents_on_stdout(invoke: Invoke, fake: FakeProgram) -> None:
    """With --json a failure is a document too, and stderr still has the sentence."""
    fake.trouble = ServerUnreachable("No answer.", side="primary", hint="Wait.")
    result = invoke("verify", "--json")
    assert json.loads(result.stdout) == {
        "command": "verify",
        "version": __version__,
        "exit_code": 3,
        "error": {
            "kind": "ServerUnreachable",
            "what": "No answer.",
            "untouched": "",
            "hint": "Wait.",
        },
    }
    assert "No answer." in result.stderr


def test_an_interrupted_command_prints_a_document_too(invoke: Invoke, fake: FakeProgram) -> None:
    """With --json, Ctrl-C is an error like any other to whoever reads stdout."""
    fake.trouble = KeyboardInterrupt()
    result = invoke("plan", "--json")
    assert json.loads(result.stdout) == {
        "command": "plan",
        "version": __version__,
        "exit_code": 130,
        "error": {
            "kind": "Stopped",
            "what": "Interrupted.",
            "untouched": "Finished work is kept; the next cycle goes on from there.",
            "hint": "",
        },
    }
    assert result.exit_code == 130
    assert "Interrupted." in result.stderr


@pytest.mark.parametrize("args", [["--debug"], ["--set", "SYNC_LOG_LEVEL=debug"]])
def test_debug_shows_the_traceback(invoke: Invoke, fake: FakeProgram, args: list[str]) -> None:
    """--debug, or the debug log level, prints where an error came from."""
    fake.trouble = ZeroDivisionError("by zero")
    result = invoke("sync", *args)
    assert result.exit_code == 4
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError: by zero" in result.stderr


@pytest.mark.parametrize(
    "args",
    [["nonsense"], ["sync", "--nonsense"], ["sync", "extra"], ["sync", "--set", "SYNC_INTERVAL"]],
)
def test_a_wrong_command_line_is_exit_code_two(invoke: Invoke, args: list[str]) -> None:
    """Unknown commands, options and arguments are usage errors."""
    result = invoke(*args)
    assert result.exit_code == 2
    assert "Error:" in result.stderr


def test_missing_urls_are_named_with_the_way_out(invoke: Invoke, fake: FakeProgram) -> None:
    """Without a URL nothing starts, and the message says how to give one."""
    result = invoke("sync", env={"REPLICA_URL": ""})
    assert result.exit_code == 2
    assert "REPLICA_URL is not set." in result.stderr
    assert "--replica" in result.stderr
    assert fake.asked == []


@pytest.mark.parametrize(
    "name", ["PRIMARY_TOKEN", "REPLICA_TOKEN", "PRIMARY_BEARER", "REPLICA_BEARER"]
)
def test_a_token_that_cannot_be_sent_is_a_settings_error(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A token beyond ASCII ends with 2 and a sentence that names its setting, not its value."""
    monkeypatch.setattr(composition, "open_program", OPEN_PROGRAM)
    result = invoke("sync", env={name: "geheimé"})
    assert result.exit_code == 2
    assert name in result.stderr
    assert "defect" not in result.stderr
    assert "geheim" not in result.stderr


def test_flags_win_over_the_environment_and_the_file(
    invoke: Invoke, fake: FakeProgram, tmp_path: Path
) -> None:
    """A flag beats a variable, a variable beats the file; each value knows its origin."""
    (tmp_path / "mine.toml").write_text(
        "SYNC_INTERVAL = 5\nSYNC_WORKERS = 5\nsync_chunk_size = 5\n"
    )
    result = invoke(
        "--config", "mine.toml", "sync", "--primary", "http://flag:1", "--set", "SYNC_WORKERS=7",
        env={"SYNC_WORKERS": "6", "SYNC_INTERVAL": "6"},
    )  # fmt: skip
    assert result.exit_code == 0
    settings = fake.settings
    assert settings is not None
    assert (settings.primary_url, settings.replica_url) == ("http://flag:1", "http://two:8000")
    assert settings.sync_workers == 7
    assert settings.sync_interval == 6
    assert settings.sync_chunk_size == 5
    names = ("PRIMARY_URL", "REPLICA_URL", "SYNC_CHUNK_SIZE", "SYNC_LEASE_SECONDS")
    origins = [settings.origin(name) for name in names]
    assert origins == [Origin.FLAG, Origin.ENVIRONMENT, Origin.FILE, Origin.DEFAULT]


def test_common_options_may_stand_before_or_after_the_command(
    invoke: Invoke, fake: FakeProgram
) -> None:
    """`chromasync --json sync` and `chromasync sync --json` are the same; the later flag wins."""
    before = invoke("--json", "--data-dir", "a", "sync", "--data-dir", "b")
    assert fake.settings is not None
    assert fake.settings.sync_data_dir == Path("b")
    assert json.loads(before.stdout) == json.loads(invoke("sync", "--json").stdout)


def test_quiet_prints_nothing_when_all_is_well(invoke: Invoke) -> None:
    """--quiet leaves the exit code alone to speak."""
    result = invoke("sync", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_notes_go_to_stderr_and_no_bar_without_a_terminal(invoke: Invoke) -> None:
    """Without a terminal there are no bars; notes stay out of stdout."""
    result = invoke("sync", "--json")
    assert result.stderr == "docs is done\n"
    json.loads(result.stdout)


def test_version_is_printed(invoke: Invoke) -> None:
    """`--version` names the program and its version."""
    assert invoke("--version").stdout == f"chromasync {__version__}\n"


@pytest.mark.parametrize("command", [[], ["sync"], ["demo"], ["approve"]])
def test_help_is_short_and_has_examples_or_codes(invoke: Invoke, command: list[str]) -> None:
    """Every help fits a screen's width and ends with examples, the main one with exit codes."""
    result = invoke(*command, "-h")
    assert result.exit_code == 0
    assert ("Examples:" if command else "Exit codes:") in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 100


def test_status_prints_the_snapshot(invoke: Invoke, fake: FakeProgram) -> None:
    """`status` prints the headline first."""
    fake.shown_status = snapshot()
    assert invoke("status").stdout.startswith("Identical as of 2030-01-02 12:00:00 UTC, 12 s ago.")
