"""One party on the multicast group: what it publishes, what it knows, whom it tells."""
