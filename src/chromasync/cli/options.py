"""The options that all commands have, and the layout of the help."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from chromasync.config import Settings

Callback = Callable[..., Any]

FLAGS = {"primary": "PRIMARY_URL", "replica": "REPLICA_URL", "data_dir": "SYNC_DATA_DIR"}
"""Options that set a setting of another name."""

OPTION_GROUPS = {
    "Settings": ("--primary", "--replica", "--data-dir", "--config", "--set"),
    "Output": ("--json", "--quiet", "--debug", "--version", "--help"),
}
"""Options that the help shows in groups of their own, after the command's own options."""


@dataclass
class Invocation:
    """The options of one invocation; `command` is the name of the command.

    An `endless` command goes on until it is interrupted.
    """

    command: str = ""
    as_json: bool = False
    quiet: bool = False
    debug: bool = False
    endless: bool = False
    config_file: Path | None = None
    flags: dict[str, object] = field(default_factory=dict)

    def take(self, given: dict[str, Any]) -> None:
        """Take over common options; options after the command's name override those before it."""
        self.as_json |= given.pop("as_json")
        self.quiet |= given.pop("quiet")
        self.debug |= given.pop("debug")
        self.config_file = given.pop("config_file", None) or self.config_file
        for option, setting in FLAGS.items():
            value = given.pop(option, None)
            if value is not None:
                self.flags[setting] = value
        self.flags.update(given.pop("assignments", {}))

    def settings(self, *, servers_required: bool = True) -> Settings:
        """The settings of this invocation; raises SettingsError."""
        # pydantic takes longer to import than `--help` may take in all
        from chromasync.config import LogLevel, load_settings

        settings = load_settings(
            self.flags, config_file=self.config_file, servers_required=servers_required
        )
        self.debug |= settings.sync_log_level is LogLevel.DEBUG
        return settings


class FiniteRange(click.FloatRange):
    """A finite number within a range; NaN is refused, because no comparison excludes it."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; fails like any other wrong value."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def _assignments(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    del context, parameter
    pairs = [text.partition("=") for text in given]
    for name, sign, _ in pairs:
        if not sign:
            raise click.BadParameter(f"{name!r} is not of the form NAME=VALUE.")
    return {name: value for name, _, value in pairs}


SETTING_OPTIONS = (
    click.option(
        "--primary", metavar="URL", help="The server or folder to read from (PRIMARY_URL)."
    ),
    click.option(
        "--replica", metavar="URL", help="The server or folder to keep identical (REPLICA_URL)."
    ),
    click.option("--data-dir", metavar="DIR", help="Folder of the state file (SYNC_DATA_DIR)."),
    click.option(
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Settings file to read instead of ./chromasync.toml.",
    ),
    click.option(
        "--set",
        "assignments",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_assignments,
        help="Any other setting; may be repeated.",
    ),
)
OUTPUT_OPTIONS = (
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
    click.option(
        "--quiet", "-q", is_flag=True, help="Print errors only (and the document of --json)."
    ),
    click.option("--debug", is_flag=True, help="Log everything, and show tracebacks of errors."),
)


def common_options(function: Callback) -> Callback:
    """Give a command the common options; its first argument is the Invocation with their values."""
    return _with_options(function, (*SETTING_OPTIONS, *OUTPUT_OPTIONS))


def output_options(function: Callback) -> Callback:
    """Give a command without settings the output options."""
    return _with_options(function, OUTPUT_OPTIONS)


def _with_options(
    function: Callback, options: Sequence[Callable[[Callback], Callback]]
) -> Callback:
    @click.pass_context
    @functools.wraps(function)
    def with_invocation(context: click.Context, /, **given: Any) -> Any:
        invocation = context.ensure_object(Invocation)
        invocation.take(given)
        invocation.command = context.info_name or ""
        return function(invocation, **given)

    wrapped: Callback = with_invocation
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


class GroupedHelp(click.Command):
    """A command whose help shows its own options first, then settings, then output options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in groups."""
        grouped = {option for options in OPTION_GROUPS.values() for option in options}
        for title, wanted in ("Options", None), *OPTION_GROUPS.items():
            rows = [
                record
                for parameter in self.get_params(ctx)
                if isinstance(parameter, click.Option)
                and (record := parameter.get_help_record(ctx)) is not None
                and _belongs(parameter, wanted, grouped)
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _belongs(parameter: click.Parameter, wanted: tuple[str, ...] | None, grouped: set[str]) -> bool:
    own = set(parameter.opts)
    return not own & grouped if wanted is None else bool(own & set(wanted))


def examples(*lines: str) -> str:
    """An epilog with examples of a command."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
