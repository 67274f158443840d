"""The http broker keeps what every broker promises, in clear text and under TLS."""

import pytest

from micro_broker_http.broker import HttpBroker
from micro_conformance.broker import BrokerConformance
from micro_core import Tls


class TestHttpBroker(BrokerConformance):
    plugin = "http"
    small_outbox = {"outbox_messages": 3}


class TestHttpBrokerUnderTls(BrokerConformance):
    """Both ends prove who they are, and speak HTTP/2."""

    small_outbox = {"outbox_messages": 3}
    publisher = ("mailer", "127.0.0.1")

    @pytest.fixture(autouse=True)
    def _certificates(self, authority):
        cert, key = authority.issue("mailer")
        self.tls = Tls(cert=cert, key=key, ca=authority.file, client_ca=authority.file)

    def plugin(self, registry, **options):
        return HttpBroker(registry, tls=self.tls, **options)
