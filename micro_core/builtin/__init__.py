"""The parts that come with the core; each is found through its entry point, like any plugin."""
