"""Protobuf payloads for micro."""
