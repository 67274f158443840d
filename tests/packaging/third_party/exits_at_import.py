"""Ends the process when it is imported, if it is let."""

import sys

sys.exit(3)
