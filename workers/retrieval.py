"""Bring an archived recording back into a file, which gets its name only when its bytes are the receipt's."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from app.receipt import Media
from workers.archive import Archive
from workers.encryption import decrypt
from workers.errors import ContentError
from workers.release import released
from workers.verification import FiledReceipt

if TYPE_CHECKING:
    from botocore.response import StreamingBody

_BLOCK_BYTES: Final = 1024 * 1024


def retrieve(
    archive: Archive,
    filed: FiledReceipt,
    destination: Path,
    advance: Callable[[int], None],
    *,
    private_key: RSAPrivateKey | None = None,
    overwrite: bool = False,
) -> None:
    """Write the media that a receipt proves to `destination`, mode 0600, decrypted with `private_key` if one is given.

    `advance` is told how many bytes have come from S3. Memory is bounded by a few blocks. On any failure nothing is
    left. Raises `ContentError` when S3 holds other bytes than the receipt states, `NotRestoredError` for an object in
    an archive tier, `DecryptionError`, `ReleaseError` and `OSError`.
    """
    encryption = filed.receipt.encryption
    with _opened(archive, filed, advance) as body:
        if private_key is not None and encryption is not None:
            decrypt(body, destination, encryption, private_key, overwrite=overwrite)
            return
        with released(destination, overwrite=overwrite) as file:
            while block := body.read(_BLOCK_BYTES):
                file.write(block)


@contextmanager
def _opened(archive: Archive, filed: FiledReceipt, advance: Callable[[int], None]) -> Iterator[BinaryIO]:
    filing, receipt = filed.filing, filed.receipt
    if (receipt.account_sid, receipt.recording_sid) != (filing.account_sid, filing.recording_sid):
        raise ContentError("receipt_of_another_recording", "the receipt names another recording")
    key = filing.media(receipt.media.format)
    if archive.head(key, receipt.media.version_id) is None:
        raise ContentError("archive_missing", "the receipt's object is not in the bucket")
    with archive.open(key, receipt.media.version_id) as body:
        yield cast(BinaryIO, _Checked(body, receipt.media, advance))


class _Checked:
    """S3's bytes, which end well only if all of them are the receipt's. Has of a file what is needed: `read`."""

    def __init__(self, body: "StreamingBody", media: Media, advance: Callable[[int], None]) -> None:
        self._body = body
        self._media = media
        self._advance = advance
        self._sha256 = hashlib.sha256()
        self._bytes = 0

    def read(self, size: int) -> bytes:
        block: bytes = self._body.read(size)
        self._sha256.update(block)
        self._bytes += len(block)
        self._advance(len(block))
        expected = (self._media.bytes, self._media.sha256)
        if not block and (self._bytes, self._sha256.hexdigest()) != expected:
            raise ContentError("archive_differs", "S3 holds other bytes than the receipt states; nothing was released")
        return block
