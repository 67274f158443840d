"""The selectors: which of the nodes that can answer shall."""
