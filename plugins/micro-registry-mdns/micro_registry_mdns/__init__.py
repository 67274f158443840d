"""Service discovery over multicast DNS for micro."""
