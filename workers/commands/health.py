"""`archiver health`: whether the processes beside this one do their work, for a container's health check.

Imports nothing but what it needs: it runs every few seconds, often on a fraction of a core.
"""

import json

import click

from workers import heartbeat
from workers.cli import Exit


@click.command()
@click.argument("process", type=click.Choice(["worker", "beat"]))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def health(process: str, as_json: bool) -> Exit:
    """Tell whether the worker or the schedule that runs here does its work; exit code 1 if it does not.

    Reads what the process says of itself. It is asked in the process's own container, as its user.
    """
    found = heartbeat.living(process)
    well = bool(found) and all(each.is_well for each in found)
    if as_json:
        processes = [each._asdict() | {"is_well": each.is_well} for each in found]
        click.echo(json.dumps({"is_well": well, "processes": processes}))
    elif not found:
        click.echo(f"no {process} runs here")
    else:
        for each in found:
            state = each.complaint or ("well" if each.is_well else "it says nothing any more")
            click.echo(f"{process} {each.pid}: {state}, {each.age_s:.0f} s ago")
    return Exit.OK if well else Exit.FAILED
