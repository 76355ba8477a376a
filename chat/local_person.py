"""The person at this computer: recognised by the connection, while nobody else can reach the chat.

A page of another name can't be meant (`chat.edge` checks the host); a proxy or a tunnel says for whom it asks; and on
Linux the connection itself tells which user of the computer made it.
"""

import ipaddress
import os
import sys
from pathlib import Path

from starlette.types import Scope

from chat.address import is_forwarded

_TABLES = {4: Path("/proc/net/tcp"), 6: Path("/proc/net/tcp6")}


def is_local_person(scope: Scope) -> bool:
    """Whether a request comes directly from the user of this computer who runs the chat.

    Where the system doesn't tell which user made a connection, it is taken to be that one.
    """
    client, server = scope.get("client"), scope.get("server")
    if client is None or server is None or is_forwarded(scope):
        return False
    try:
        ends = [(ipaddress.ip_address(host), port) for host, port in (client, server)]
    except ValueError:
        return False
    return all(address.is_loopback for address, _ in ends) and _is_same_user(*ends)


_End = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]


def _is_same_user(client: _End, server: _End) -> bool:
    try:
        table = _TABLES[client[0].version].read_text(encoding="ascii")
    except OSError:
        return True
    ends = [_as_listed(client), _as_listed(server)]
    # Each line: number, local end, remote end, state, queues, timer, retransmissions, user.
    users = [int(fields[7]) for line in table.splitlines()[1:] if (fields := line.split())[1:3] == ends]
    return users == [os.getuid()]


def _as_listed(end: _End) -> str:
    """An address and port as Linux lists them: each four bytes in the machine's order."""
    packed = end[0].packed
    words = [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{end[1]:04X}"
