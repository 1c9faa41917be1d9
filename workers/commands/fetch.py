"""`archiver fetch`: bring archived recordings back into files, verified and decrypted."""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from app.receipt import Filing
from app.settings import FetchSettings
from workers.archive import Archive
from workers.cli import Exit, say
from workers.commands.common import (
    dry_run_option,
    finder,
    for_each_recording,
    json_option,
    messages,
    print_json,
    which_recordings,
    worker_settings,
)
from workers.encryption import load_private_key
from workers.errors import ArchiverError, DecryptionError, NotRestoredError
from workers.retrieval import retrieve
from workers.verification import FiledReceipt, read_receipt

_STDOUT: Final = "-"
_RESTORED_DAYS: Final = 7


class FetchError(ArchiverError):
    """A recording that can't be brought back for now."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Where recordings go and how; `fetched` says what came of each."""

    archive: Archive
    bucket_owner: str | None
    output: Path
    into_directory: bool
    private_key: RSAPrivateKey | None
    as_stored: bool
    overwrite: bool
    dry_run: bool
    fetched: list[dict[str, Any]] = field(default_factory=list)

    def run(self, filing: Filing) -> None:
        """Bring one recording back. Raises `ArchiverError`."""
        filed = read_receipt(self.archive, filing)
        if filed is None:
            raise FetchError("not_archived", "there is no receipt; `archiver show` says what is known")
        media, encrypted = filed.receipt.media, filed.receipt.encryption is not None
        if encrypted and not self.as_stored and self.private_key is None:
            sid = filed.receipt.encryption.public_key_sid if filed.receipt.encryption else ""
            raise FetchError("encrypted", f"give --private-key (of the public key {sid}), or ask for it --as-stored")
        ciphertext = encrypted and self.as_stored
        destination = self.output
        if self.into_directory or destination.is_dir():
            destination /= f"{filing.recording_sid}.{media.format}{'.encrypted' if ciphertext else ''}"
        if not self.dry_run:
            self._retrieve(filed, destination)
        self.fetched.append(
            {
                "recording_sid": filing.recording_sid,
                "account_sid": filing.account_sid,
                "path": str(destination),
                "bytes": media.bytes,
                "sha256": media.sha256,
                "decrypted": encrypted and not ciphertext,
            }
        )

    def _retrieve(self, filed: FiledReceipt, destination: Path) -> None:
        key = None if self.as_stored else self.private_key
        try:
            with _progress(filed) as advance:
                retrieve(self.archive, filed, destination, advance, private_key=key, overwrite=self.overwrite)
        except NotRestoredError:
            raise FetchError("in_archive_tier", _how_to_restore(self.archive, filed, self.bucket_owner)) from None
        except OSError as error:
            raise FetchError("not_written", os.strerror(error.errno) if error.errno else type(error).__name__) from None


@click.command()
@which_recordings
@click.option(
    "-o",
    "--output",
    default=".",
    show_default="this directory",
    metavar="FILE",
    help="A file, a directory for RE….wav files, or - for standard output.",
)
@click.option(
    "--private-key", type=click.Path(exists=True, dir_okay=False), metavar="PEM", help="Decrypt with this RSA key."
)
@click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="The passphrase of the private key (default: PRIVATE_KEY_PASSPHRASE, or a prompt on a terminal).",
)
@click.option("--as-stored", is_flag=True, help="Leave encrypted recordings encrypted.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@dry_run_option
@json_option
def fetch(
    recording_sids: tuple[str, ...],
    call_sid: str | None,
    conference_sid: str | None,
    account: str | None,
    output: str,
    private_key: str | None,
    passphrase_file: str | None,
    as_stored: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> Exit:
    """Bring archived recordings back into files.

    A file gets its name only when its bytes have the SHA-256 of the receipt and, decrypted, are authentic; it is
    readable by its owner only. The paths are printed.
    """
    several = len(recording_sids) != 1 or call_sid is not None or conference_sid is not None
    to_stdout = output == _STDOUT
    if to_stdout and (several or as_json):
        raise click.UsageError("standard output takes one recording (RE…) and nothing else")
    if to_stdout and sys.stdout.isatty():
        raise click.UsageError("audio is not written to a terminal; give -o FILE, or a pipe")
    if as_stored and private_key:
        raise click.UsageError("give --private-key or --as-stored, not both")
    settings = worker_settings(FetchSettings)
    secret = settings.PRIVATE_KEY_PASSPHRASE.get_secret_value() if settings.PRIVATE_KEY_PASSPHRASE else None
    key = _load_key(private_key, passphrase_file, secret) if private_key else None
    find = finder(settings, account)
    with _directory(output, several=several and not dry_run) as place:
        work = Fetch(find.archive, settings.ARCHIVE_BUCKET_OWNER, place, several, key, as_stored, force, dry_run)
        code = for_each_recording(find, recording_sids, call_sid, conference_sid, work.run)
        if to_stdout and not dry_run:
            for each in work.fetched:
                _copy_to_stdout(Path(each["path"]))
    if dry_run:
        for each in work.fetched:
            where = "standard output" if to_stdout else each["path"]
            say(f"would write {each['bytes']:,} bytes of {each['recording_sid']} to {where}")
    elif as_json:
        print_json({"fetched": work.fetched})
    elif not to_stdout:
        for each in work.fetched:
            click.echo(each["path"])
    return code


def _load_key(path: str, passphrase_file: str | None, passphrase: str | None) -> RSAPrivateKey:
    """Read the private key; ask for its passphrase only where none was given, on a terminal."""
    if passphrase_file:
        passphrase = _read(passphrase_file).decode("utf-8", "surrogateescape").rstrip("\r\n")
    pem = _read(path)
    try:
        return load_private_key(pem, passphrase.encode("utf-8", "surrogateescape") if passphrase else None)
    except DecryptionError as error:
        if error.reason != "passphrase_missing" or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
    asked: str = click.prompt("Passphrase of the private key", hide_input=True, err=True)
    return load_private_key(pem, asked.encode())


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FetchError("not_read", f"{path}: {os.strerror(error.errno or 0)}") from None


@contextmanager
def _directory(output: str, *, several: bool) -> Iterator[Path]:
    """Yield where to write: what was named, made if it must be a directory, or one for what goes to standard output."""
    if output == _STDOUT:
        with tempfile.TemporaryDirectory(prefix="archiver-") as private:  # mode 0700
            yield Path(private)
        return
    if several:
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise click.UsageError("several recordings need a directory; -o names a file") from None
        except OSError as error:
            raise FetchError("not_written", os.strerror(error.errno or 0)) from None
    yield Path(output)


def _copy_to_stdout(path: Path) -> None:
    """Write a verified file to standard output. Raises `FetchError` when nobody reads it to its end."""
    try:
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    except OSError as error:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (what is left in the buffer has nowhere to go)
        raise FetchError("not_written", os.strerror(error.errno or 0)) from None


@contextmanager
def _progress(filed: FiledReceipt) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal; yield what is to be told how many bytes have come."""
    console = messages()
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True, expand=True) as bar:
        task = bar.add_task(filed.receipt.recording_sid, total=filed.receipt.media.bytes)
        yield lambda count: bar.advance(task, count)


def _how_to_restore(archive: Archive, filed: FiledReceipt, owner: str | None) -> str:
    """Say how the object gets out of its archive tier, with the command as it is to be typed."""
    media = filed.receipt.media
    key = filed.filing.media(media.format)
    head = archive.head(key, media.version_id) or {}
    if 'ongoing-request="true"' in head.get("Restore", ""):
        return "S3 is restoring it from its archive tier; try again in some hours"
    # Intelligent-Tiering moves an object back for good: it takes no number of days.
    days = "" if head.get("StorageClass") == "INTELLIGENT_TIERING" else f'"Days":{_RESTORED_DAYS},'
    words = ["aws", "s3api", "restore-object", "--bucket", archive.bucket, "--key", key]
    words += ["--version-id", media.version_id] if media.version_id else []
    words += ["--expected-bucket-owner", owner] if owner else []
    words += ["--restore-request", f'{{{days}"GlacierJobParameters":{{"Tier":"Standard"}}}}']
    return f"ask S3 to restore it, which takes some hours, and fetch it again:\n{shlex.join(words)}"
