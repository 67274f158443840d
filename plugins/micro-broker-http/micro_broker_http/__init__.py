"""Point-to-point publish/subscribe over HTTP for micro."""
