"""Programs that read. Each is run in a fresh process with one JSON object on its input, and prints one.

Those in the rivals' virtual environment see no gridfs, so modules here import only the standard library, each other,
and what they measure.
"""
