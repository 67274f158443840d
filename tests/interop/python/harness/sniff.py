"""Listen on loopback, in a network namespace, and print every UDP datagram and TCP segment as a line of JSON.

Ends when its standard input does.
"""

import json
import os
import select
import socket
import struct
import sys

ALL = 3
OUTGOING = 4
"""Loopback shows every packet twice; the copy on its way out is left out."""
UDP, TCP = 17, 6


def seen(packet: bytes) -> dict[str, object] | None:
    """Return what an IPv4 packet carries, where that is something."""
    if packet[0] >> 4 != 4:
        return None
    start = (packet[0] & 15) * 4
    protocol, total = packet[9], struct.unpack_from("!H", packet, 2)[0]
    source, target = struct.unpack_from("!HH", packet, start)
    if protocol == UDP:
        return {"from": source, "to": target, "data": packet[start + 8 : total].hex()}
    if protocol != TCP:
        return None
    sequence = struct.unpack_from("!I", packet, start + 4)[0]
    data = packet[start + (packet[start + 12] >> 4) * 4 : total]
    return {"from": source, "to": target, "sequence": sequence, "data": data.hex()} if data else None


def main() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL)) as packets:
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([packets, sys.stdin], [], [])
            if packets in ready:
                packet, address = packets.recvfrom(1 << 17)
                if address[2] != OUTGOING and (line := seen(packet)):
                    print(json.dumps(line), flush=True)
            elif not os.read(sys.stdin.fileno(), 100):
                return


if __name__ == "__main__":
    main()
