"""The request and reply of every benchmark, and how they are written: one codec for all, so that it decides nothing."""

from dataclasses import dataclass

import msgspec


@dataclass
class Hello:
    name: str


@dataclass
class Greeting:
    greeting: str


encode = msgspec.json.Encoder().encode
decode_hello = msgspec.json.Decoder(Hello).decode
decode_greeting = msgspec.json.Decoder(Greeting).decode
