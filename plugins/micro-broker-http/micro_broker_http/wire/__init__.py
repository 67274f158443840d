"""What travels and what is registered: envelopes of Go Micro, batches of ours, names. Bytes in, values out."""
