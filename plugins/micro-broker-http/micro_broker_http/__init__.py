"""Point-to-point publish/subscribe over HTTP for micro."""

from micro_broker_http.broker import HttpBroker

__all__ = ["HttpBroker"]
