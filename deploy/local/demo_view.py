"""How the demo shows recordings: a table on a terminal, lines elsewhere."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from deploy.local.observer import Watched
from deploy.local.stack import Stack

_STYLES = {"deleted": "green", "no audio": "green", "WRONG": "bold red", "waiting": "dim"}


def table(watched: Sequence[Watched], width: int) -> Group:
    """Show every recording with its state and its digests on both sides, then the key of each.

    Digests are shortened to what fits into `width` characters: the comparison is of whole ones.
    """
    digits = 8 if width < 100 else 16
    states = _columns("recording", "state", ">ch", ">seconds", ">bytes", "SHA-256", "in S3", "gone")
    for each in watched:
        states.add_row(
            each.kind,
            Text(each.state, style=_STYLES.get(each.state, "yellow")),
            str(each.channels or "-"),
            f"{each.seconds:.1f}",
            f"{each.bytes:,}" if each.bytes else "-",
            each.source_sha256[:digits] or "-",
            _digest(each, digits),
            "-" if each.absent else Text("yes", style="green") if each.gone else Text("no", style="dim"),
        )
    keys = _columns("recording", "key in the bucket")
    for each in watched:
        key = each.key or (f"absences/account=…/…/{each.recording_sid}.json" if each.absence else "-")
        keys.add_row(each.kind, Text(_short(key), style="dim", overflow="fold"))
    return Group(states, "", keys)


def _columns(*names: str) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name in names:
        made.add_column(
            name.removeprefix(">"), justify="right" if name[0] == ">" else "left", no_wrap=name != names[-1]
        )
    return made


def _digest(each: Watched, digits: int) -> Text:
    if each.archived_sha256 is None:
        return Text("-", style="dim")
    style = "green" if each.same else "bold red"
    return Text(f"{each.archived_sha256[:digits]} {'=' if each.same else '!'}", style=style)


def _short(key: str) -> str:
    """Leave out the account, which is the same for all."""
    return "/".join("account=…" if part.startswith("account=") else part for part in key.split("/"))


def log_line(each: Watched) -> str:
    """Say the state of one recording in a line."""
    facts = [f"{each.recording_sid} {each.state}", f"kind={each.kind!r}"]
    if each.absence:
        facts.append(f"error_code={each.absence['error_code']} explanation={each.absence['explanation']!r}")
    elif not each.absent:
        facts += [f"channels={each.channels} bytes={each.bytes} seconds={each.seconds:.1f}"]
        facts += [f"sha256_source={each.source_sha256} sha256_s3={each.archived_sha256 or '-'}"]
        facts += [f"key={each.key or '-'} gone={'yes' if each.gone else 'no'}"]
    return " ".join([*facts, *each.complaints])


def summary(watched: Sequence[Watched], seconds: float) -> Text:
    """Say in one line how it ended, and in one line each what went wrong."""
    completed = [each for each in watched if not each.absent]
    right = [each for each in completed if each.right]
    absent = [each for each in watched if each.absent]
    text = Text(
        f"\n{len(right)} of {len(completed)} completed recordings are in S3 byte for byte, with a receipt, "
        f"and gone from Twilio; {sum(each.right for each in absent)} of {len(absent)} without audio are documented. "
        f"{seconds:.1f} s.\n",
        style="bold green" if len(right) == len(completed) and all(each.right for each in absent) else "bold red",
    )
    for each in watched:
        if not each.right:
            text.append(f"{each.recording_sid} ({each.kind}): {', '.join(each.complaints) or each.state}\n", "red")
    return text


def first_day(stack: Stack, script: Path, recordings: int) -> str:
    """Say what is there before anything was archived, and how to go on."""
    return f"""
Running, with TWILIO_DELETE=never. At Twilio are {recordings} recordings of two weeks; nobody has told us of any.

{_places(stack)}
In a second terminal, take over the settings of these processes:

  . {shlex.quote(str(script))}

and go on as the README says under "A first day, tried here". Ctrl-C stops everything.
"""


def _places(stack: Stack) -> str:
    return f"""  callback URL   {stack.callback_url}
  Twilio         {stack.simulator.url}
  S3             {stack.s3.endpoint_url}  bucket {stack.bucket}
  Redis          {stack.redis_url}
  logs           {stack.directory}
"""


def look_around(stack: Stack, recording_sid: str) -> str:
    """Return the URLs of what is running and commands to look at it, and at one recording."""
    account = next(iter(stack.simulator.accounts.values()))
    recordings = f"{stack.simulator.url}/2010-04-01/Accounts/{account.sid}/Recordings.json"
    s3 = f"{stack.s3.endpoint_url}/{stack.bucket}"
    signed = (
        f"curl -s --aws-sigv4 aws:amz:{stack.s3.region}:s3 -u {stack.s3.access_key_id}:{stack.s3.secret_access_key}"
    )
    archiver = f"(set -a; . {shlex.quote(str(stack.environment_file))}; archiver"
    return f"""
Still running; Ctrl-C stops everything.

{_places(stack)}
Play another call:
  curl -X POST {stack.simulator.url}/_simulator/calls -d '{{"seconds": 20, "callback_url": "{stack.callback_url}"}}'
List what Twilio still has (deleted ones too with IncludeSoftDeleted=true):
  curl -su {account.sid}:{account.auth_tokens[0]} {recordings}
Ask the product what became of everything, and of one recording:
  {archiver} audit --since 1d)
  {archiver} show {recording_sid})
List the bucket, and read a document in it:
  {signed} '{s3}?list-type=2'
  {signed} '{s3}/KEY'
Kill the worker (it comes back):
  kill -9 {stack.worker.pid}
"""
