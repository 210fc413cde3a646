"""Where settings come from, what they may be, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from chromasync.config import (
    MaxDelete,
    Origin,
    Role,
    Settings,
    container_memory_mb,
    load_settings,
)
from chromasync.config.reference import settings_table
from chromasync.errors import SettingsError
from chromasync.model import Side
from tests.unit.configs import ONE, TWO, refusal

pytestmark = pytest.mark.usefixtures("two_servers_alone")


# ---- sources ---------------------------------------------------------------------------------


def test_two_urls_are_enough() -> None:
    """Everything else has a default."""
    settings = load_settings()
    assert settings.primary_url == "http://one:8000"
    assert settings.sync_interval == 300
    assert settings.sync_chunk_size == 1000
    assert settings.role is Role.SINGLE
    assert settings.store.url == "sqlite:///chromasync-data/chromasync.db"
    assert settings.sync_tenants == ("default_tenant",)
    assert settings.sync_databases is None


def test_flag_beats_environment_beats_file_beats_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The strongest source that names a setting decides, and is remembered."""
    (tmp_path / "chromasync.toml").write_text(
        "SYNC_INTERVAL = 1\nsync_workers = 1\nSYNC_CHUNK_SIZE = 1\n"
    )
    monkeypatch.setenv("SYNC_INTERVAL", "2")
    monkeypatch.setenv("SYNC_WORKERS", "2")
    settings = load_settings({"SYNC_INTERVAL": "3", "sync_data_dir": None})
    assert (settings.sync_interval, settings.sync_workers, settings.sync_chunk_size) == (3, 2, 1)
    names = ("SYNC_INTERVAL", "SYNC_WORKERS", "sync_chunk_size", "SYNC_DATA_DIR")
    assert [settings.origin(name) for name in names] == [
        Origin.FLAG,
        Origin.ENVIRONMENT,
        Origin.FILE,
        Origin.DEFAULT,
    ]
    with pytest.raises(KeyError):
        settings.origin("SYNC_NONSENSE")


def test_values_given_directly_read_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Settings(...)` is what its arguments say, whatever the environment holds."""
    monkeypatch.setenv("SYNC_INTERVAL", "7")
    assert Settings(primary_url=ONE, replica_url=TWO).sync_interval == 300


def test_settings_cannot_be_changed() -> None:
    """Settings are frozen once they are made."""
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().sync_interval = 1  # type: ignore[misc]


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Platforms that pass empty variables do not break anything."""
    monkeypatch.setenv("SYNC_INTERVAL", "")
    monkeypatch.setenv("DATABASE_URL", "")
    settings = load_settings()
    assert settings.sync_interval == 300
    assert settings.database_url is None


def test_missing_urls_are_refused_unless_they_are_not_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command that talks to servers needs both URLs; the others go without."""
    monkeypatch.delenv("PRIMARY_URL")
    with pytest.raises(SettingsError, match="PRIMARY_URL is not set"):
        load_settings()
    settings = load_settings(servers_required=False)
    with pytest.raises(SettingsError, match="PRIMARY_URL is not set"):
        settings.server(Side.PRIMARY)
    assert settings.server(Side.REPLICA).url == "http://two:8000"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SYNC_CHUNKSIZE", "SYNC_CHUNK_SIZE"),
        ("PRIMARY_UR", "PRIMARY_URL"),
        ("REPLICA_TOKENS", "REPLICA_TOKEN"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_likely_name(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    """A typing error in a name is told, not ignored."""
    text = refusal(monkeypatch, name, "1")
    assert f"The environment variable {name} is unknown. Did you mean {meant}?" in text


@pytest.mark.parametrize(
    "name",
    [
        "PRIMARY_REGION",
        "PRIMARY_PORT",
        "PRIMARY_PORT_8000_TCP_ADDR",
        "PRIMARY_SERVICE_HOST",
        "PRIMARY_DATABASE_URL",
        "PRIMARY_USER",
        "REPLICA_SERVICE_PORT",
        "REPLICA_KEY_FILE",
        "REPLICA_COUNT",
        "REPLICA_CLIENT_ID",
    ],
)
def test_variables_of_the_platform_are_no_typing_errors(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What a platform sets beside us is ignored, unless it looks like a misspelt setting."""
    monkeypatch.setenv(name, "1")
    assert load_settings().primary_url == ONE


@pytest.mark.parametrize("prefix", ["PRIMARY", "REPLICA"])
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("TOKNE", "TOKEN"),
        ("URI", "URL"),
        ("HEADER", "HEADERS"),
        ("CAFILE", "CA_FILE"),
        ("TLS_VERFY", "TLS_VERIFY"),
        ("CLIENT_CRET", "CLIENT_CERT"),
    ],
)
def test_a_misspelt_setting_of_a_server_is_refused(
    monkeypatch: pytest.MonkeyPatch, prefix: str, written: str, meant: str
) -> None:
    """One wrong, missing or exchanged letter is noticed in the settings of both servers."""
    text = refusal(monkeypatch, f"{prefix}_{written}", "1")
    assert f"{prefix}_{written} is unknown. Did you mean {prefix}_{meant}?" in text


def test_an_unknown_flag_and_an_unknown_key_are_refused(tmp_path: Path) -> None:
    """The file and --set are held to the same names."""
    with pytest.raises(SettingsError, match=r"The setting SYNC_WRKERS is unknown\. Did you mean"):
        load_settings({"SYNC_WRKERS": "1"})
    file = tmp_path / "other.toml"
    file.write_text("intervall = 3\n")
    with pytest.raises(SettingsError, match=r"other\.toml, the setting INTERVALL is unknown"):
        load_settings(config_file=file)


def test_a_settings_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file that was asked for, and one that is no TOML, are errors with a way out."""
    with pytest.raises(SettingsError, match=r"There is no settings file .*gone\.toml"):
        load_settings(config_file=tmp_path / "gone.toml")
    (tmp_path / "chromasync.toml").write_text("PRIMARY_URL = http://one\n")
    with pytest.raises(SettingsError, match=r"chromasync\.toml cannot be read"):
        load_settings()


def test_port_of_the_platform_is_the_port_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """PORT counts when SYNC_HTTP_PORT is not set."""
    monkeypatch.setenv("PORT", "10000")
    assert load_settings().sync_http_port == 10000
    assert load_settings().origin("SYNC_HTTP_PORT") is Origin.ENVIRONMENT
    monkeypatch.setenv("SYNC_HTTP_PORT", "8080")
    assert load_settings().sync_http_port == 8080


@pytest.mark.parametrize("name", ["PORT", "SYNC_HTTP_PORT"])
def test_a_wrong_port_is_named_as_it_was_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A platform sets PORT, and nobody there knows of another name."""
    monkeypatch.setenv(name, "abc")
    with pytest.raises(SettingsError, match=rf"^{name} in the environment is 'abc'"):
        load_settings()


# ---- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("SYNC_CHUNK_SIZE", "0", "a whole number from 1 to 5000"),
        ("SYNC_CHUNK_SIZE", "5001", "a whole number from 1 to 5000"),
        ("SYNC_CHUNK_SIZE", "many", "a whole number from 1 to 5000"),
        ("SYNC_WORKERS", "0", "a whole number from 1 to 64"),
        ("SYNC_INTERVAL", "0", "a number of seconds above 0"),
        ("SYNC_INTERVAL", "inf", "a number of seconds above 0"),
        ("SYNC_INTERVAL", "nan", "a number of seconds above 0"),
        ("SYNC_HTTP_TIMEOUT", "-1", "a number of seconds above 0"),
        ("SYNC_LEASE_SECONDS", "0.5", "a number of seconds from 1 to 2678400 (31 days)"),
        ("SYNC_LEAD_SECONDS", "nan", "a number of seconds from 1 to 2678400 (31 days)"),
        ("SYNC_MAX_DELETE", "ten", "a count such as 500, or a percentage such as 10%"),
        ("SYNC_MAX_DELETE", "-5", "a count such as 500, or a percentage such as 10%"),
        ("SYNC_MAX_DELETE", "101%", "a count such as 500, or a percentage such as 10%"),
        ("SYNC_MAX_DELETE", "1.5", "a count such as 500, or a percentage such as 10%"),
        ("SYNC_SCRUB_BUDGET", "101%", "a percentage from 0% to 100%"),
        ("SYNC_SCRUB_BUDGET", "25", "a percentage from 0% to 100%"),
        ("SYNC_SCRUB_BUDGET", "%", "a percentage from 0% to 100%"),
        ("SYNC_SCRUB_BUDGET", "1", "a percentage from 0% to 100%, or a fraction below 1"),
        ("SYNC_MAX_MEMORY_MB", "63", "a whole number of at least 64"),
        ("SYNC_DISTRIBUTED", "perhaps", "true or false"),
        ("SYNC_HTTP_PORT", "65536", "a whole number from 1 to 65535"),
        ("SYNC_METRICS_COLLECTIONS", "some", "true or false"),
        ("SYNC_LOG_FORMAT", "xml", "auto, console or json"),
        ("SYNC_LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("SYNC_TENANTS", ",", "names, separated by commas"),
        ("SYNC_DATABASES", " , ", "names, separated by commas"),
        ("PRIMARY_CA_FILE", "gone.pem", "the path of an existing file"),
        ("PRIMARY_URL", "one/8000", "a URL that starts with http:// or https://"),
        ("PRIMARY_URL", "ftp://one", "a URL that starts with http:// or https://"),
        ("PRIMARY_URL", "http://", "a URL that starts with http:// or https://"),
        ("PRIMARY_URL", "http://one:99999", "a URL that starts with http:// or https://"),
        ("PRIMARY_URL", "http://[::1", "a URL that starts with http:// or https://"),
        ("PRIMARY_URL", "http://one/?a=b", "a URL that starts with http:// or https://"),
        ("PRIMARY_URL", "http://ex_ample..:1", "a URL that starts with http:// or https://"),
        ("PRIMARY_URL", f"http://{'a' * 64}.b", "a URL that starts with http:// or https://"),
    ],
)
def test_a_bad_value_is_refused_with_name_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    """The refusal names the variable, where it came from, its value and what would do."""
    text = refusal(monkeypatch, name, value)
    assert f"{name} in the environment is {value!r}" in text
    assert f"allowed: {allowed}" in text
    assert "Nothing was started." in text


@pytest.mark.parametrize(
    "name", [i.name for i in settings_table() if i.allowed.startswith("a number of seconds")]
)
@pytest.mark.parametrize("value", ["1e300", "2678401"])
def test_no_duration_is_longer_than_a_month(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Clocks, threads and sockets fail at durations that nobody means."""
    text = refusal(monkeypatch, name, value)
    assert f"{name} in the environment is {value!r}" in text
    assert "2678400 (31 days)" in text
    monkeypatch.setenv(name, "2678400")
    assert getattr(load_settings(), name.lower()) == 31 * 86400


def test_a_bare_one_says_how_to_write_what_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """SYNC_SCRUB_BUDGET=1 may mean all or a hundredth, so it means neither."""
    assert "write 100% or 1%" in refusal(monkeypatch, "SYNC_SCRUB_BUDGET", "1")


def test_all_bad_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to start five times to find five mistakes."""
    monkeypatch.setenv("SYNC_WORKERS", "0")
    text = refusal(monkeypatch, "SYNC_INTERVAL", "soon")
    assert "SYNC_WORKERS" in text
    assert "SYNC_INTERVAL" in text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://one:8000/", "http://one:8000"),
        ("https://one/chroma/v9//", "https://one/chroma/v9"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_urls_keep_their_prefix_and_lose_their_last_slash(
    monkeypatch: pytest.MonkeyPatch, given: str, kept: str
) -> None:
    """A base URL may have a path prefix; a trailing slash makes no difference."""
    monkeypatch.setenv("PRIMARY_URL", given)
    assert load_settings().primary_url == kept


def test_lists_come_from_commas_or_from_toml_lists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A comma-separated text and a list of the file are the same."""
    (tmp_path / "chromasync.toml").write_text('SYNC_DATABASES = ["a", "b"]\n')
    monkeypatch.setenv("SYNC_TENANTS", " one, two ,")
    settings = load_settings()
    assert settings.sync_tenants == ("one", "two")
    assert settings.sync_databases == ("a", "b")


def test_globs_choose_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """SYNC_INCLUDE lets in, SYNC_EXCLUDE keeps out, and the latter wins."""
    assert load_settings().scope.wants("anything")
    monkeypatch.setenv("SYNC_INCLUDE", "docs-*,Notes")
    monkeypatch.setenv("SYNC_EXCLUDE", "*-old")
    wants = load_settings().scope.wants
    assert [wants(n) for n in ("docs-a", "Notes", "notes", "docs-old", "x")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_lag_is_told_after_three_intervals_unless_it_is_said_when(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SYNC_ALERT_LAG follows SYNC_INTERVAL until it is set."""
    assert load_settings().alert_lag_seconds == 900
    monkeypatch.setenv("SYNC_INTERVAL", "10")
    assert load_settings().alert_lag_seconds == 30
    monkeypatch.setenv("SYNC_ALERT_LAG", "7.5")
    assert load_settings().alert_lag_seconds == 7.5
    assert "SYNC_ALERT_LAG" in refusal(monkeypatch, "SYNC_ALERT_LAG", "0")


@pytest.mark.parametrize(
    ("distributed", "coordinator", "role"),
    [
        ("false", "true", Role.SINGLE),
        ("false", "false", Role.SINGLE),
        ("true", "true", Role.COORDINATOR),
        ("true", "false", Role.WORKER),
    ],
)
def test_the_role_follows_from_two_settings(
    monkeypatch: pytest.MonkeyPatch, distributed: str, coordinator: str, role: Role
) -> None:
    """SYNC_DISTRIBUTED and SYNC_COORDINATOR alone decide."""
    monkeypatch.setenv("SYNC_DISTRIBUTED", distributed)
    monkeypatch.setenv("SYNC_COORDINATOR", coordinator)
    assert load_settings().role is role


@pytest.mark.parametrize(
    ("given", "total", "limit"),
    [
        ("10%", 50, 100),
        ("10%", 1000, 100),
        ("10%", 12345, 1234),
        ("0%", 10**6, 0),
        ("100%", 7000, 7000),
        ("2.5%", 10000, 250),
        ("500", 10**9, 500),
        ("0", 10**9, 0),
        (25, 10, 25),
    ],
)
def test_the_delete_limit_is_a_count_or_a_percentage_of_at_least_100(
    given: object, total: int, limit: int
) -> None:
    """A percentage is never less than 100 records; a count is exact."""
    assert MaxDelete.parse(given).limit(total) == limit


@pytest.mark.parametrize(
    ("given", "fraction"), [("25%", 0.25), ("0%", 0), ("100 %", 1), ("0.5", 0.5), ("1.0", 1)]
)
def test_the_scrub_budget_is_a_fraction(
    monkeypatch: pytest.MonkeyPatch, given: str, fraction: float
) -> None:
    """A percentage is kept as a number from 0 to 1; processes hand it on to each other as one."""
    monkeypatch.setenv("SYNC_SCRUB_BUDGET", given)
    assert load_settings().sync_scrub_budget == fraction


# ---- the container's memory ------------------------------------------------------------------


def cgroup(root: Path, line: str, limits: dict[str, str]) -> Path:
    """A file system with the limits of control groups in it."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line + "\n")
    for name, limit in limits.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(limit + "\n")
    return root


def test_the_memory_limit_of_version_2_is_the_smallest_on_the_way_up(tmp_path: Path) -> None:
    """A group inside a smaller one has the smaller one's limit."""
    root = cgroup(
        tmp_path / "fs",
        "0::/pod/app",
        {"pod/app/memory.max": "max", "pod/memory.max": str(512 << 20), "memory.max": "max"},
    )
    assert container_memory_mb(root) == 512


def test_the_memory_limit_of_version_1_is_read(tmp_path: Path) -> None:
    """The memory controller's limit counts; its huge number means no limit."""
    line, file = "4:cpu,memory:/app", "memory/app/memory.limit_in_bytes"
    root = tmp_path / "fs"
    assert container_memory_mb(cgroup(root, line, {file: str(256 << 20)})) == 256
    assert container_memory_mb(cgroup(root, line, {file: "9223372036854771712"})) is None


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    """Another operating system, or no limit at all, is no limit."""
    assert container_memory_mb(tmp_path) is None
    assert container_memory_mb(cgroup(tmp_path / "fs", "0::/", {})) is None


@pytest.mark.parametrize(
    ("given", "kept"), [("off", None), (" OFF ", None), ("3600", 3600.0), ("0.5", 0.5)]
)
def test_a_time_that_may_be_off(given: str, kept: float | None) -> None:
    """`off` is a value, and so is any number of seconds."""
    assert load_settings({"SYNC_KEEP_DROPPED": given}).sync_keep_dropped == kept


@pytest.mark.parametrize("given", ["0", "-1", "nan", "on", "2678401"])
def test_a_time_that_is_none_is_refused(given: str) -> None:
    """The error names what is allowed."""
    with pytest.raises(SettingsError, match=r"SYNC_KEEP_DROPPED.*or off"):
        load_settings({"SYNC_KEEP_DROPPED": given})
