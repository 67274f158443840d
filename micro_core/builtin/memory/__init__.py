"""The network inside one process: registry, transport and broker ``memory``."""
