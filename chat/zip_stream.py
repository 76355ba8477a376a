"""A zip that is sent while it is made: what is in memory is what was not sent yet."""

import asyncio
import io
import time
import zipfile
from collections.abc import AsyncIterator

STORED = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp4", ".webm", ".mp3", ".ogg", ".zip", ".docx", ".xlsx", ".pdf")
"""Endings of files that are compressed by themselves: to try again costs time and gains nothing."""


class ZipStream:
    """Writes members one after the other; what each call returns is the next bytes of the zip, maybe none."""

    def __init__(self) -> None:
        self._outlet = _Outlet()
        self._zip = zipfile.ZipFile(self._outlet, "w", zipfile.ZIP_DEFLATED)

    async def write(self, name: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Add a member, piece by piece. Compressing is done on a thread."""
        info = zipfile.ZipInfo(name, time.localtime()[:6])
        info.compress_type = zipfile.ZIP_STORED if name.lower().endswith(STORED) else zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        with self._zip.open(info, "w", force_zip64=True) as member:
            async for piece in pieces:
                await asyncio.to_thread(member.write, piece)
                yield self._outlet.take()
        yield self._outlet.take()

    def end(self) -> bytes:
        """The table of contents, with which a zip ends."""
        self._zip.close()
        return self._outlet.take()


class _Outlet(io.RawIOBase):
    """A file that can't be read or moved in, as a socket: what is written waits to be taken."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  # a zip writes nothing else
        self._waiting.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._waiting)
        self._waiting.clear()
        return taken
