"""How a creation tells what it is doing. It only tells: nothing that a Progress does changes the outcome.

All methods are called in the trio thread, at most some ten times a second, and must return at once.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Takes note of how far a creation has come. Counts are totals since the beginning, not increments."""

    def on_phase(self, text: str) -> None:
        """A new phase begins: `scanning`, `reading`, `writing the manifest`, ..."""
        ...

    def on_scan(self, files: int, total_bytes: int) -> None:
        """So much has been found up to now."""
        ...

    def on_total(self, files: int, total_bytes: int) -> None:
        """So much is to be done; unknown (never called) for what streams."""
        ...

    def on_advance(self, files: int, total_bytes: int) -> None:
        """So much of it is done, what was reused included."""
        ...


class Silent:
    """A Progress that tells nobody."""

    def on_phase(self, text: str) -> None:
        pass

    def on_scan(self, files: int, total_bytes: int) -> None:
        pass

    def on_total(self, files: int, total_bytes: int) -> None:
        pass

    def on_advance(self, files: int, total_bytes: int) -> None:
        pass
