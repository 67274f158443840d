"""One broken codec for each promise; the table's key is the promise that alone catches it."""

from typing import Any

from micro_conformance import CodecConformance
from micro_conformance.codec import Sample
from micro_core import DecodeError, EncodeError
from micro_core.builtin.json.codec import JsonRpcCodec


class Sound(JsonRpcCodec):
    """The json codec with its envelope, and a framing that a fault may replace."""

    def __init__(self):
        super().__init__()
        self.framing = Envelope(JsonRpcCodec.framing, self)

    def pack_request(self, pack, endpoint, id, body):
        return pack(endpoint, id, body)

    def unpack_reply(self, unpack, message):
        return unpack(message)

    def unpack_request(self, unpack, message):
        return unpack(message)

    def read(self, decode, type, body):
        return decode(body)

    def decoder(self, type):
        decode = super().decoder(type)
        return lambda body: self.read(decode, type, body)


class Envelope(type(JsonRpcCodec.framing)):
    """Goes through the codec, so that a fault is one method."""

    def __init__(self, sound, codec):
        self.sound, self.codec = sound, codec

    def pack_request(self, endpoint, id, body):
        return self.codec.pack_request(self.sound.pack_request, endpoint, id, body)

    def unpack_request(self, message):
        return self.codec.unpack_request(self.sound.unpack_request, message)

    def pack_reply(self, endpoint, id, body, error):
        return self.sound.pack_reply(endpoint, id, body, error)

    def unpack_reply(self, message):
        return self.codec.unpack_reply(self.sound.unpack_reply, message)


class LosesSmiles(Sound):
    def encode(self, value):
        return super().encode(value).replace("🙂".encode(), b":)")


class GivesByteArrays(Sound):
    def encode(self, value):
        return Body(super().encode(value))


class Body(bytes):
    """Bytes, nearly."""


class SharesWhatItRead(Sound):
    def decoder(self, type):
        decode, known = super().decoder(type), {}

        def read(body):
            if body not in known:
                known[body] = decode(body)
            return known[body]

        return read


class ShortRubbishEscapes(Sound):
    def read(self, decode, type, body):
        if body[:1] >= b"\x80" and len(body) < 4:
            raise IndexError("too short")
        return decode(body)


class NestingEscapes(Sound):
    def read(self, decode, type, body):
        if len(body) == 100_000:
            raise RecursionError("too deep")
        return decode(body)


class DamageEscapes(Sound):
    def read(self, decode, type, body):
        if body.startswith(b'{"name"') and b"}" not in body:
            raise IndexError("cut off")
        return decode(body)


class EmptyEscapes(Sound):
    def read(self, decode, type, body):
        if not body:
            raise IndexError("empty")
        return decode(body)


class WritesRepr(Sound):
    def encode(self, value):
        try:
            return super().encode(value)
        except EncodeError:
            return repr(value).encode()


class NamesNoField(Sound):
    def read(self, decode, type, body):
        try:
            return decode(body)
        except Exception as error:
            if b"not a number" in body:
                error.args, error.detail = ("it does not fit",), "it does not fit"
            raise


class TypeWithParameters(Sound):
    content_type = "application/json; charset=utf-8"


class NativeOfAnything(Sound):
    def native(self, type: Any) -> bool:
        return True

    def supports(self, type: Any) -> bool:
        return type != 7 and super().supports(type)


class LosesIds(Sound):
    def pack_request(self, pack, endpoint, id, body):
        return pack(endpoint, id % 2**32, body)


class LosesReplyIds(Sound):
    def unpack_reply(self, unpack, message):
        id, body, error = unpack(message)
        return id % 2**32, body, error


class CutsErrors(Sound):
    def unpack_reply(self, unpack, message):
        id, body, error = unpack(message)
        return id, body, error[:20]


class EnvelopeEscapes(Sound):
    def unpack_request(self, unpack, message):
        if 0 < len(message) < 3 and message != bytes(1):
            raise IndexError("too short")
        return unpack(message)


class LongEnvelopeEscapes(Sound):
    def unpack_reply(self, unpack, message):
        if len(message) == 100_000:
            raise RecursionError("too deep")
        return unpack(message)


class BooleansAreNumbers(Sound):
    def read(self, decode, type, body):
        return self.numbered(decode(body)) if type is Any else decode(body)

    def numbered(self, value):
        if isinstance(value, dict):
            return {name: self.numbered(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.numbered(item) for item in value]
        return int(value) if isinstance(value, bool) else value


class EncodingEmpties(Sound):
    def encode(self, value):
        body = super().encode(value)
        if isinstance(value, list):
            value.clear()
        return body


class NumbersAreFloats(Sound):
    def read(self, decode, type, body):
        value = decode(body)
        return int(float(value)) if type is int else value


class FloatsAreRounded(Sound):
    def encode(self, value):
        return super().encode(round(value, 15) if type(value) is float else value)


class SurrogatesEscape(Sound):
    def encode(self, value):
        return value.encode() if value == "\ud800" else super().encode(value)


class RestIsDropped(Sound):
    def read(self, decode, type, body):
        return decode(body[:-1] if type is Sample and body.endswith(b"}x") else body)


class MissingIsEmpty(Sound):
    def read(self, decode, type, body):
        try:
            return decode(body)
        except DecodeError:
            if type is Sample and body == b'{"count":1}':
                return Sample("")
            raise


class NewerIsRefused(Sound):
    def read(self, decode, type, body):
        if type is Sample and b'"newer":' in body:
            raise DecodeError("newer: no such field")
        return decode(body)


class UsualIsLeftOut(Sound):
    def encode(self, value):
        if isinstance(value, Sample):
            value = {name: item for name, item in vars(value).items() if item != getattr(Sample("a"), name)}
            value.setdefault("name", "a")
        return super().encode(value)


class TypesByName(Sound):
    def decoder(self, type):
        self.known = getattr(self, "known", {})
        name = getattr(type, "__name__", "")
        return self.known.setdefault(name, super().decoder(type)) if name == "Sample" else super().decoder(type)


class Suite(CodecConformance):
    plugin = Sound


FAULTS = {
    "test_what_was_encoded_is_decoded_to_the_same": LosesSmiles,
    "test_encoding_gives_bytes": GivesByteArrays,
    "test_a_decoder_can_be_used_again_and_shares_nothing": SharesWhatItRead,
    "test_random_bytes_are_a_value_or_a_decode_error": ShortRubbishEscapes,
    "test_hostile_bytes_are_a_value_or_a_decode_error": NestingEscapes,
    "test_damaged_bytes_are_a_value_or_a_decode_error": DamageEscapes,
    "test_no_bytes_at_all_are_a_value_or_a_decode_error": EmptyEscapes,
    "test_what_cannot_be_coded_is_an_encode_error": WritesRepr,
    "test_a_field_that_does_not_fit_is_named": NamesNoField,
    "test_what_is_decoded_has_the_types_that_it_had": BooleansAreNumbers,
    "test_encoding_leaves_the_value_as_it_is": EncodingEmpties,
    "test_integers_of_64_bits_keep_every_bit": NumbersAreFloats,
    "test_floats_keep_every_bit": FloatsAreRounded,
    "test_hostile_values_are_bytes_or_an_encode_error": SurrogatesEscape,
    "test_bytes_behind_a_value_are_a_decode_error": RestIsDropped,
    "test_a_field_that_is_missing_is_named": MissingIsEmpty,
    "test_a_field_that_nobody_knows_is_passed_over": NewerIsRefused,
    "test_fields_with_their_usual_values_are_sent_too": UsualIsLeftOut,
    "test_types_of_one_name_do_not_mix": TypesByName,
    "test_the_content_type_is_one_without_parameters": TypeWithParameters,
    "test_a_native_type_is_a_supported_one": NativeOfAnything,
    "test_a_request_comes_out_of_its_envelope_as_it_went_in": LosesIds,
    "test_a_reply_comes_out_of_its_envelope_as_it_went_in": LosesReplyIds,
    "test_an_error_comes_out_of_its_envelope_as_it_went_in": CutsErrors,
    "test_random_bytes_are_an_envelope_or_a_decode_error": EnvelopeEscapes,
    "test_hostile_bytes_are_an_envelope_or_a_decode_error": LongEnvelopeEscapes,
}
