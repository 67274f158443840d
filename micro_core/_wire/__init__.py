"""What every peer must agree on: errors as JSON, content types, and TLS."""
