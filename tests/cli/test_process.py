from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slower

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
    "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    "PRIMARY_URL": "http://one:8000",
    "REPLICA_URL": "http://two:8000",
}


@pytest.fixture
def waiting(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A command that has begun and waits for a signal; ended when the test is over."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.fake_main", *request.param.split()],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "began\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("waiting", "number", "code"),
    [
        ("sync", signal.SIGINT, 130),
        ("sync", signal.SIGTERM, 130),
        ("run", signal.SIGINT, 130),
        ("run", signal.SIGTERM, 0),
    ],
    indirect=["waiting"],
)
def test_a_signal_ends_in_order(
    waiting: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    """Ctrl-C and SIGTERM let the work be put down; only a service that was asked to stop is 0."""
    waiting.send_signal(number)
    out, err = waiting.communicate()
    assert waiting.returncode == code
    assert out == ""
    assert err.startswith("put down\n")
    assert "Traceback" not in err


@pytest.mark.parametrize("waiting", ["sync --json"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_one_document(
    waiting: subprocess.Popen[str], number: signal.Signals
) -> None:
    """Whoever parses stdout learns of the end there, as from any command that fails."""
    waiting.send_signal(number)
    out, err = waiting.communicate()
    document = json.loads(out)
    assert (waiting.returncode, document["exit_code"]) == (130, 130)
    assert document["error"]["what"] == "Interrupted."
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error() -> None:
    """Output into a closed pipe leaves stderr quiet and the exit code as it is."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "tests.cli.fake_main", "plan", "--json"],
            env=ENVIRONMENT,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert result.returncode == 4
    assert result.stderr == "docs is done\n"


def test_help_imports_nothing_slow() -> None:
    """`--help` answers without loading the engine and its libraries."""
    code = (
        "import json, sys\n"
        "from chromasync.cli import main\n"
        "sys.argv[1:] = ['sync', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    slow = {"numpy", "pydantic", "rich", "sqlalchemy", "urllib3", "structlog"}
    assert slow.isdisjoint(json.loads(result.stderr))


def test_the_module_is_the_command() -> None:
    """`python -m chromasync` is the same command line."""
    result = subprocess.run(
        [sys.executable, "-m", "chromasync", "--version"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("chromasync ")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses such names by itself")
def test_a_path_that_is_no_text_ends_as_any_missing_one() -> None:
    """`--json --config` with a byte that is no UTF-8: one document, exit code 2, no traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "chromasync", "sync", "--json", "--config", b"\xff.toml"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert json.loads(result.stdout)["error"]["what"] == "There is no settings file \\udcff.toml."
