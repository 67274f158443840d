"""The contract of every kind of micro plugin as pytest classes."""
