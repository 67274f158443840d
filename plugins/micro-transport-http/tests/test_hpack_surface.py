"""What we use of hpack beyond its documentation: a release that takes it away fails here, by name.

The dependency has an upper bound for the same reason (pyproject.toml).
"""

from __future__ import annotations

import hpack
import hpack.hpack
import pytest
from hpack.table import HeaderTable

BEYOND_DOCUMENTATION = {
    hpack.Encoder: ("add", "header_table", "table_size_changes"),
    hpack.Decoder: ("header_table", "max_header_list_size"),
    HeaderTable: ("dynamic_entries", "resized", "search"),
}


@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part, names in BEYOND_DOCUMENTATION.items() for name in names]
)
def test_hpack_has_what_is_used_of_it(part: type, name: str) -> None:
    assert hasattr(part(), name), f"hpack's {part.__name__} has no {name} any more: the HTTP/2 header tables rely on it"


def test_hpack_writes_integers_with_a_prefix() -> None:
    assert bytes(hpack.hpack.encode_integer(1337, 5)) == b"\x1f\x9a\x0a", "RFC 7541 §C.1.2"


def test_the_newest_entry_of_the_table_stands_first() -> None:
    encoder = hpack.Encoder()
    encoder.encode([(b"a", b"1"), (b"b", b"2")])
    assert [tuple(entry) for entry in encoder.header_table.dynamic_entries] == [(b"b", b"2"), (b"a", b"1")]
