"""The tree of a version and where each byte of it lies (docs/manifest-format.md)."""
