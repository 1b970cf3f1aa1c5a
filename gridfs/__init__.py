"""gridfs: versioned datasets, mounted read-only, as fast as a local disk."""

__version__ = "0.1.0"
