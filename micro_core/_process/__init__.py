"""A process that runs one service, or several that run the same: signals, supervision, exit."""
