"""From a name in a configuration string to an object: entry points, plugins once loaded, and their options."""
