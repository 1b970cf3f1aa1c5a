"""gridfs: versioned datasets, mounted read-only, as fast as a local disk."""

__version__ = "0.1.0"

PROGRAM = "grid"
"""What gridfs/cli looks for, to know that it is not pymongo's package of the same name."""
