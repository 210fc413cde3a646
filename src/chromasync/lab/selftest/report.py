"""The figures of the self-test: filled while it runs, and printed by `--json`."""

from __future__ import annotations

from dataclasses import dataclass, field

TITLE = "🧪 Testing Distributed Sync Workers"
VERIFIED = "✅ Sync verification passed!"
PASSED = "🎉 DISTRIBUTED SYNC TEST PASSED!"
FAILED = "❌ DISTRIBUTED SYNC TEST FAILED"

DIFFERENT = 1
NOT_SHOWN = 4


@dataclass(slots=True)
class SelftestReport:
    """The figures of one self-test.

    Attributes:
        exit_code: 0 passed, 1 the sides differ, 2 settings, 3 unreachable or too slow, 4 others.
        servers: `own` or `configured`.
        store: `sqlite` or `postgresql`.
        coordinator: `started` by the self-test, or `running` already.
        workers: the active workers of the store, as `worker-<process id>`.
        cycle_seconds: durations of the cycles that created the tasks.
        completed_by: completed tasks of the test's collections, by worker.
        verified: records that are the same on both sides.
        problems: one sentence for each problem.
    """

    exit_code: int = 0
    servers: str = ""
    store: str = ""
    coordinator: str = ""
    collections: list[str] = field(default_factory=list)
    chunks: int = 0
    tasks_created: int = 0
    tasks_completed: int = 0
    tasks_pending: int = 0
    cycle_seconds: float = 0.0
    workers: list[str] = field(default_factory=list)
    completed_by: dict[str, int] = field(default_factory=dict)
    added: int = 0
    updated: int = 0
    deleted: int = 0
    verified: int = 0
    duration_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether there was no problem."""
        return self.exit_code == 0 and not self.problems

    def note(self, problem: str, exit_code: int) -> None:
        """Record a problem; the first exit code stays."""
        self.problems.append(problem)
        self.exit_code = self.exit_code or exit_code
