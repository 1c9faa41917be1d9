"""The command line `archiver`: finds its commands, and turns errors into one line and an exit code.

Data goes to standard output, messages and progress to standard error. Exit codes: 0 ok, 1 failed, 2 usage, 3 some
items failed, 4 discrepancies found, 5 configuration, 130 interrupted.
"""

import importlib
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import click

# Loaded only when asked for: a health check must not pay for S3 and Celery.
COMMANDS: Final[Mapping[str, str]] = {
    "archive": "workers.commands.archiving:archive",
    "audit": "workers.commands.audit:audit",
    "backfill": "workers.commands.backfill:backfill",
    "callback-url": "workers.commands.callback_url:callback_url",
    "check": "workers.commands.check:check",
    "deletions": "workers.commands.deletions:deletions",
    "fetch": "workers.commands.fetch:fetch",
    "health": "workers.commands.health:health",
    "hold": "workers.commands.hold:hold",
    "quarantine": "workers.commands.quarantine:quarantine",
    "record": "workers.commands.record:record",
    "show": "workers.commands.show:show",
    "sweep": "workers.commands.archiving:sweep",
}


class Exit(IntEnum):
    """What the exit code says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3
    DISCREPANCIES = 4
    CONFIGURATION = 5
    INTERRUPTED = 130


class Commands(click.Group):
    """The commands of `COMMANDS`, each loaded when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in alphabetical order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


def _show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from app.receipt import archiver_version

        click.echo(f"archiver, version {archiver_version()}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def archiver(debug: bool) -> None:
    """Archive Twilio call recordings in S3, prove it, and only then delete the Twilio copy."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = archiver.main(arguments, prog_name="archiver", standalone_mode=False)
    except Exception as error:
        if "--debug" in arguments:
            raise
        code = _explain(error)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    sys.exit(int(code or 0) if isinstance(code, int) else 0)


def _explain(error: Exception) -> Exit:
    """Say in one line, without a value, what went wrong; return the exit code that fits."""
    from app.queue import QueueUnavailableError
    from app.settings import SettingsError
    from workers.errors import ArchiverError, ConfigurationError

    if isinstance(error, click.exceptions.Abort):
        return Exit.INTERRUPTED
    if isinstance(error, click.ClickException):
        error.show()
        return Exit(error.exit_code) if error.exit_code in list(Exit) else Exit.FAILED
    if isinstance(error, SettingsError):
        say("archiver: mend these settings:", *(f"  {mistake}" for mistake in error.mistakes), sep="\n")
        return Exit.CONFIGURATION
    if isinstance(error, ArchiverError):
        say(f"archiver: {error}")
        return Exit.CONFIGURATION if isinstance(error, ConfigurationError) else Exit.FAILED
    if isinstance(error, QueueUnavailableError):
        say(f"archiver: the queue takes nothing: {error}; `archiver check --only redis` says more")
        return Exit.FAILED
    say(f"archiver: {type(error).__name__}; --debug shows where")
    return Exit.FAILED


def say(*lines: Any, sep: str = " ") -> None:
    """Tell the user something that is not data."""
    click.echo(sep.join(str(line) for line in lines), err=True)


if __name__ == "__main__":
    main()
