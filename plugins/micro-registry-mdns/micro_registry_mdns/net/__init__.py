"""The machine's side of multicast: interfaces, sockets, pacing."""
