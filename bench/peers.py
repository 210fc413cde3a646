"""A published tool that copies between servers, in an environment of its own: chromadb-data-pipes.

`cdp export | cdp import` is run as its documentation says, once for each collection. It asks for an
old client that does not know today's servers, so it is installed with the client of this bench. If
it cannot be installed, the race goes on without it, and says so in one line.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import chromadb

from bench.kept import Say
from chromasync.lab.judge import collections_of, connect

TOOL = "chromadb-data-pipes==0.0.12"
NEEDS = (
    f"chromadb=={chromadb.__version__}",
    "datasets<3.2",
    "essential-generators",
    "fastapi",
    "jinja2",
    "langchain<0.3",
    "langchain-community<0.3",
    "pyarrow<19",
    "py-ulid",
    "pypdf",
    "python-dotenv",
    "tenacity",
    "typer",
)
PYTHON = "python3.11"
"""The newest that the tool allows."""
ONE_COLLECTION_SECONDS = 3600
BATCH = 1000
SAID = 400
"""Characters that are kept of what a failed command said."""


def installed(folder: Path, say: Say) -> Path | None:
    """The tool's program, installed in this folder if it is not there; None if that fails."""
    program = folder / "bin" / "cdp"
    if program.exists():
        return program
    say(f"installing {TOOL} into an environment of its own")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q"]
    python = shutil.which(PYTHON)
    steps = [[str(python), "-m", "venv", str(folder)], [*pip, *NEEDS], [*pip, "--no-deps", TOOL]]
    for step in steps if python else []:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            break
    else:
        if program.exists():
            return program
    say(f"{TOOL} could not be installed here; the race goes on without it")
    shutil.rmtree(folder, ignore_errors=True)
    return None


def copy(program: Path, primary_url: str, replica_url: str) -> dict[str, Any]:
    """Copy each collection by `cdp export | cdp import`.

    Returns:
        The seconds, and in `failed` what the tool said where it ended with an error.
    """
    distances = {
        name: (collection.configuration.get("hnsw") or {}).get("space", "l2")
        for name, collection in collections_of(connect(primary_url)).items()
    }
    started, failed = time.perf_counter(), []
    for name, distance in distances.items():
        export = [program, "export", f"{primary_url}/{name}", "--batch-size", str(BATCH)]
        take = [program, "import", f"{replica_url}/{name}?df={distance}", "--create"]
        failed += _piped(export, [*take, "--upsert", "--batch-size", str(BATCH)])
    return {"seconds": time.perf_counter() - started, "failed": failed}


def _piped(export: list[Any], take: list[Any]) -> list[str]:
    """Run both, one's output into the other; what they said at last if one of them failed."""
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(export, stdout=subprocess.PIPE, stderr=said) as source:
            done = subprocess.run(
                take,
                stdin=source.stdout,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
                timeout=ONE_COLLECTION_SECONDS,
            )
        said.seek(0)
        words = [said.read(), done.stderr]
    if done.returncode or source.returncode:
        told = " ".join(part.decode(errors="replace")[-SAID:] for part in words)
        return [f"ended with {source.returncode} and {done.returncode}: {told}"]
    return []
