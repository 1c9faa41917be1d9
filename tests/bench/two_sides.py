"""Twilio's list and S3's listings of a million recordings, made up while they are asked for."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

ACCOUNT_SID: Final = "AC" + "a1" * 16
BUCKET: Final = "bench-archive"
PAGE: Final = 1000
ABSENT: Final = 200

_ITEM: Final = (
    '{{"account_sid":"{account}","api_version":"2010-04-01","call_sid":"CA{tail}","conference_sid":null,'
    '"date_created":"{at}","date_updated":"{at}","start_time":"{at}","duration":"63","sid":"{sid}","price":"-0.00250",'
    '"price_unit":"USD","status":"{status}","channels":2,"source":"DialVerb","error_code":{code},'
    '"uri":"/2010-04-01/Accounts/{account}/Recordings/{sid}.json","encryption_details":null,"subresource_uris":'
    '{{"add_on_results":"/2010-04-01/Accounts/{account}/Recordings/{sid}/AddOnResults.json",'
    '"transcriptions":"/2010-04-01/Accounts/{account}/Recordings/{sid}/Transcriptions.json"}},'
    '"media_url":"https://api.twilio.com/2010-04-01/Accounts/{account}/Recordings/{sid}","track":"both"}}'
)
_ENTRY: Final = (
    "<Contents><Key>{key}</Key><LastModified>{at}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
    "<ChecksumAlgorithm>SHA256</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>1008044</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)


class TwoSides:
    """Answers for Twilio and S3: `recordings` over `days` until yesterday, archived and deleted but for the newest.

    The `outstanding` newest are completed and not archived; `ABSENT` others have no audio, which is documented.
    """

    def __init__(self, recordings: int, days: int, outstanding: int) -> None:
        self.until = datetime.now(UTC).date() - timedelta(days=1)
        self.since = self.until - timedelta(days=days - 1)
        self.per_day = recordings // days
        self.outstanding = outstanding
        self.requests: Counter[str] = Counter()
        # A day's SIDs, newest first; S3 lists them in their own order.
        self._newest_first = lru_cache(maxsize=2)(self._make_day)

    def _make_day(self, day: date) -> list[str]:
        numbers = random.Random(day.toordinal())
        return [f"RE{numbers.getrandbits(128):032x}" for _ in range(self.per_day)]

    def _status(self, position: int) -> str:
        """Return the status of the nth newest recording."""
        if position < self.outstanding:
            return "completed"
        return "absent" if position < self.outstanding + ABSENT else "deleted"

    # Twilio

    def twilio(self, path: str, query: dict[str, str]) -> bytes:
        self.requests["Twilio"] += 1
        if path.endswith("/Accounts.json"):
            return b'{"accounts":[{"sid":"%s"}],"next_page_uri":null}' % ACCOUNT_SID.encode()
        total = self.per_day * ((self.until - self.since).days + 1)
        if query.get("IncludeSoftDeleted") != "true":
            total = self.outstanding + ABSENT
        start = int(query.get("PageToken", "PA0")[2:])
        end = min(total, start + PAGE)
        items = ",".join(self._item(position) for position in range(start, end))
        following = "null"
        if end < total:
            following = f'"{path}?{urlencode({**query, "PageToken": f"PA{end}"})}"'
        return f'{{"recordings":[{items}],"page_size":{PAGE},"next_page_uri":{following}}}'.encode()

    def _item(self, position: int) -> str:
        back, index = divmod(position, self.per_day)
        day = self.until - timedelta(days=back)
        at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(
            seconds=86399 - index * 86399 // self.per_day
        )
        sid, status = self._newest_first(day)[index], self._status(position)
        return _ITEM.format(
            account=ACCOUNT_SID,
            sid=sid,
            tail=sid[2:],
            at=at.strftime("%a, %d %b %Y %H:%M:%S +0000"),
            status=status,
            code=16101 if status == "absent" else "null",
        )

    # S3

    def s3(self, query: dict[str, str]) -> bytes:
        self.requests["S3 listings"] += 1
        keys = self._keys(query.get("prefix", ""))
        start = int(query.get("continuation-token", "0"))
        page, end = keys[start : start + PAGE], start + PAGE
        at = f"{self.until}T23:59:59.000Z"
        body = "".join(_ENTRY.format(key=quote(key), at=at, etag=key[-37:-5]) for key in page)
        more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < len(keys) else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><KeyCount>{len(page)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<EncodingType>url</EncodingType><IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
            f"{body}</ListBucketResult>"
        ).encode()

    @lru_cache(maxsize=2)  # noqa: B019 (one instance, which lives as long as the program)
    def _keys(self, prefix: str) -> list[str]:
        """Return every key under the prefix of a day, in S3's order."""
        collection, _, rest = prefix.partition("/")
        parts = dict(part.split("=") for part in rest.strip("/").split("/") if "=" in part)
        if "year" not in parts:
            return []
        day = date(int(parts["year"]), int(parts["month"]), int(parts["day"]))
        if not self.since <= day <= self.until:
            return []
        first = (self.until - day).days * self.per_day
        statuses = {sid: self._status(first + index) for index, sid in enumerate(self._newest_first(day))}
        wanted = {"absences": "absent", "quarantine": ""}.get(collection, "deleted")
        names = {"recordings": [".wav"], "deletions": [".json", ".requested.json"]}.get(collection, [".json"])
        sids = sorted(sid for sid, status in statuses.items() if status == wanted)
        return [f"{prefix}{sid}{name}" for sid in sids for name in names]


@contextmanager
def serving(sides: TwoSides) -> Iterator[str]:
    """Serve both sides on loopback from threads of this process; yield the origin."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
            if url.path.startswith("/2010-04-01/"):
                self._send(200, "application/json", sides.twilio(url.path, query))
            elif "list-type" in query:
                self._send(200, "application/xml", sides.s3(query))
            elif "uploads" in query:
                sides.requests["S3 others"] += 1
                self._send(200, "application/xml", b"<ListMultipartUploadsResult></ListMultipartUploadsResult>")
            else:
                sides.requests["S3 others"] += 1
                self._send(404, "application/xml", b"<Error><Code>NoSuchKey</Code></Error>")

        do_HEAD = do_GET  # noqa: N815 (http.server's names)

        def _send(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
