"""The caller's side: channels, their pool and the connections in it."""
