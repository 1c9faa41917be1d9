"""How a dossier is shown to people: what it comes to, then its facts by the document that they are from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from workers.commands.common import plain
from workers.dossier import UNREADABLE

Document = Mapping[str, Any]
Rows = list[tuple[str, Any]]

_GOOD: Final = "green"
_OPEN: Final = "yellow"
_BAD: Final = "bold red"


def headline(dossier: Document) -> Text:
    """Say in a few words how things stand."""
    return Text(" · ").join(Text(words, style=style) for words, style in _findings(dossier))


def _findings(dossier: Document) -> Iterator[tuple[str, str]]:
    media, status = dossier["media"], dossier["twilio"].get("status")
    if dossier["quarantine"]:
        yield "in quarantine", _BAD
    if media is None:
        yield ("no audio", _GOOD) if dossier["absence"] else ("not archived", _OPEN)
    else:
        yield {
            True: ("archived and verified", _GOOD),
            False: ("the archive does NOT verify", _BAD),
            None: ("stored, not verified", _OPEN),
        }[media["verified"]]
    if dossier["deletion"]:
        yield "gone from Twilio", _GOOD
    elif status == "deleted":
        yield ("deleted at Twilio, not proven", _OPEN) if media else ("deleted at Twilio before it was archived", _BAD)
    elif status and not dossier["absence"]:
        yield f"{plain(status)} at Twilio", _OPEN
    if media and media.get("legal_hold"):
        yield "legal hold", "cyan"


def sections(dossier: Document) -> Table:
    """Lay the facts out: a heading for each document that there is, then its names and values."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for title, rows in _sections(dossier):
        if grid.row_count:
            grid.add_row()
        grid.add_row(Text(title, style="bold"))
        for name, value in rows:
            grid.add_row(Text(f"  {name}", style="dim"), value if isinstance(value, Text) else plain(value))
    return grid


def _sections(dossier: Document) -> Iterator[tuple[str, Rows]]:
    """Yield a heading and rows for each document; one that can't be read is only named."""
    yield "recording", _recording(dossier)
    for name, title, rows in (
        ("media", "media in S3", _media),
        ("receipt", "receipt", _receipt),
        ("deletion_request", "deletion request", _request),
        ("deletion", "deletion", _deletion),
        ("absence", "absence", _absence),
        ("quarantine", "quarantine", _quarantine),
        ("transcriptions", "transcriptions and add-on results", _texts),
        ("hold", "legal hold", _hold),
    ):
        document = dossier[name]
        if document == UNREADABLE:
            yield title, [("", Text("the document can't be read", style=_BAD))]
        elif document:
            yield title, rows(document)
    yield "Twilio now", _twilio(dossier["twilio"])


def _recording(dossier: Document) -> Rows:
    source = next(filter(None, (_source_in(dossier[name]) for name in ("receipt", "absence"))), None)
    source = source or dossier["twilio"].get("resource") or {}
    names = ("call_sid", "conference_sid", "source", "start_time", "duration", "channels", "track")
    facts: Rows = [(name.replace("_sid", "").replace("_", " "), source[name]) for name in names if source.get(name)]
    return [("account", dossier["account_sid"]), ("filed under", dossier["day"] or "undated"), *facts]


def _source_in(document: Document | None) -> Document | None:
    source = (document or {}).get("source")
    return source if isinstance(source, Mapping) else None


def _media(media: Document) -> Rows:
    good = {True: ("verified now", _GOOD), False: ("does NOT verify", _BAD), None: ("not verified", _OPEN)}
    words, style = good[media["verified"]]
    rows: Rows = [
        ("key", media["key"]),
        ("version", media["version_id"]),
        ("verification", Text(words, style=style)),
    ]
    if media["problem"]:
        rows.append(("problem", plain(media["problem"], style)))
    if not media["exists"]:
        return rows
    lock = f"{media['object_lock_mode']} until {media['retain_until']}" if media["object_lock_mode"] else "none"
    sse = " ".join(filter(None, (media["sse"], media["kms_key_id"]))) or "none reported"
    return [
        *rows,
        ("bytes", f"{media['bytes']:,}"),
        ("S3's SHA-256", media["checksum_sha256"]),
        ("written", media["last_modified"]),
        ("storage", _joined(media["storage_class"], media["restore"])),
        ("encryption", sse),
        ("object lock", lock),
        ("legal hold", Text("ON", style="cyan") if media["legal_hold"] else "off"),
    ]


def _receipt(receipt: Document) -> Rows:
    media, encryption = receipt["media"], receipt["encryption"]
    audio = [media["format"], f"{media['channels']} ch" if media["channels"] else None]
    audio += [f"{media['sample_rate']} Hz" if media["sample_rate"] else None]
    audio += [f"{media['duration_seconds']} s" if media["duration_seconds"] else None]
    rungs = [f"{rung['requested_channels'] or 'as stored'}: {rung['status']}" for rung in media["attempts"]]
    rows: Rows = [
        ("archived", receipt["archived_at"]),
        ("audio", _joined(*audio)),
        ("SHA-256", media["sha256"]),
        ("channels asked", ", ".join(rungs)),
        ("verified then", f"{receipt['verification']['method']}, {receipt['verification']['verified_at']}"),
        ("found by", "callback" if receipt["callback"] else "sweep or command"),
        ("archiver", receipt["archiver_version"]),
    ]
    if encryption:
        rows.append(("encrypted", f"{encryption['type']}, public key {encryption['public_key_sid']}"))
    if receipt.get("quarantine"):
        rows.append(("was quarantined", f"{receipt['quarantine'].get('attempts')} failures, resolved"))
    return rows


def _request(request: Document) -> Rows:
    return [("requested", request.get("requested_at")), ("key", request["key"])]


def _deletion(deletion: Document) -> Rows:
    answer = deletion.get("answer") or {}
    return [
        ("deleted", deletion.get("deleted_at")),
        ("answer", f"{answer.get('status')}, {'by the archiver' if answer.get('by_archiver') else 'by somebody else'}"),
        ("confirmed", "Twilio says deleted" if deletion.get("confirmation") else "Twilio no longer knows it"),
        ("key", deletion["key"]),
    ]


def _absence(absence: Document) -> Rows:
    reason = _joined(absence.get("reason"), absence.get("error_code"))
    return [
        ("reason", reason),
        ("explanation", absence.get("explanation")),
        ("recorded", absence.get("recorded_at")),
        ("key", absence["key"]),
    ]


def _quarantine(quarantine: Document) -> Rows:
    failures: Sequence[Document] = quarantine.get("failures") or ()
    rows: Rows = [
        ("attempts", quarantine.get("attempts")),
        ("since", quarantine.get("first_failed_at")),
        *(("failed", f"{each.get('at')}  {each.get('reason')}: {each.get('detail')}") for each in failures[-3:]),
    ]
    return [*rows, ("key", quarantine["key"])]


def _texts(texts: Document) -> Rows:
    return [
        ("kept", f"{texts.get('transcriptions')} transcriptions, {texts.get('add_on_results')} add-on results"),
        ("when", texts.get("kept_at")),
        ("key", texts["key"]),
    ]


def _hold(hold: Document) -> Rows:
    events: Sequence[Document] = hold.get("events") or ()
    return [
        *((str(each.get("action")), f"{each.get('at')}  {each.get('reason')}") for each in events),
        ("key", hold["key"]),
    ]


def _twilio(twilio: Document) -> Rows:
    if "error" in twilio:
        return [("could not be asked", plain(twilio["error"], _OPEN))]
    resource = twilio["resource"]
    if resource is None:
        return [("status", "Twilio does not know it (any more)")]
    return [
        ("status", twilio["status"]),
        ("updated", resource.get("date_updated")),
        *([("error code", resource["error_code"])] if resource.get("error_code") else []),
    ]


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)
