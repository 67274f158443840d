"""Pluggable microservices: typed services that find, call, stream and publish to each other, and to Go Micro."""

from micro_core import filters
from micro_core._app.client import Client
from micro_core._app.handlers import endpoint, idempotent
from micro_core._app.proxy import with_options
from micro_core._plugins.build import build
from micro_core._plugins.host import PluginHost
from micro_core.broker import Broker, Capability, Publication, PublishOptions, PublishStats, Subscription
from micro_core.client import Attempt, Call, Caller, CallOptions, CallOptionsDict, ClientStream, Filter
from micro_core.codec import Codec, Framing
from micro_core.context import Context, current_context
from micro_core.delivery import Reject, Requeue
from micro_core.errors import (
    BadRequest,
    Closed,
    ConfigError,
    Conflict,
    ConnectFailed,
    ConnectionLost,
    DecodeError,
    EncodeError,
    Executed,
    Forbidden,
    InternalError,
    LimitExceeded,
    MicroError,
    NoNode,
    NotFound,
    PluginError,
    PluginNotFound,
    ProtocolError,
    PublishError,
    RegistryError,
    RemoteError,
    Timeout,
    Unauthorized,
    Unavailable,
)
from micro_core.hookspecs import hookimpl
from micro_core.message import Delivery, Headers, Message, Metadata, Topic
from micro_core.registry import SYNC, Change, ChangeKind, Endpoint, Node, Record, Registry, Value
from micro_core.selector import Selector
from micro_core.server import Handler, HandlerKind, Running, Server
from micro_core.service import Service
from micro_core.sync import SyncClient, SyncStream
from micro_core.tls import Tls
from micro_core.transport import Channel, Head, Limits, Listener, Request, Stream, Transport

__all__ = [
    "SYNC",
    "Attempt",
    "BadRequest",
    "Broker",
    "Call",
    "CallOptions",
    "CallOptionsDict",
    "Caller",
    "Capability",
    "Change",
    "ChangeKind",
    "Channel",
    "Client",
    "ClientStream",
    "Closed",
    "Codec",
    "ConfigError",
    "Conflict",
    "ConnectFailed",
    "ConnectionLost",
    "Context",
    "DecodeError",
    "Delivery",
    "EncodeError",
    "Endpoint",
    "Executed",
    "Filter",
    "Forbidden",
    "Framing",
    "Handler",
    "HandlerKind",
    "Head",
    "Headers",
    "InternalError",
    "LimitExceeded",
    "Limits",
    "Listener",
    "Message",
    "Metadata",
    "MicroError",
    "NoNode",
    "Node",
    "NotFound",
    "PluginError",
    "PluginHost",
    "PluginNotFound",
    "ProtocolError",
    "Publication",
    "PublishError",
    "PublishOptions",
    "PublishStats",
    "Record",
    "Registry",
    "RegistryError",
    "Reject",
    "RemoteError",
    "Request",
    "Requeue",
    "Running",
    "Selector",
    "Server",
    "Service",
    "Stream",
    "Subscription",
    "SyncClient",
    "SyncStream",
    "Timeout",
    "Tls",
    "Topic",
    "Transport",
    "Unauthorized",
    "Unavailable",
    "Value",
    "build",
    "current_context",
    "endpoint",
    "filters",
    "hookimpl",
    "idempotent",
    "with_options",
]
