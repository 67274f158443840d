"""The seam between handlers and the event loop."""
