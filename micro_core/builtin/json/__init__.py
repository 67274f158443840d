"""The codec ``json`` and the json-rpc envelope of legacy peers."""
