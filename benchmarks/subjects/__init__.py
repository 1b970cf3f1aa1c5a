"""Who is measured: everything that shows a dataset as a directory has one interface (base.py)."""
