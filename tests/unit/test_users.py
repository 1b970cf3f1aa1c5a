"""When a daemon may take its mount out of the tree."""

from __future__ import annotations

import pytest

from gridfs.mount.users import Use, may_release


@pytest.mark.parametrize(
    ("use", "released"),
    [
        (Use(None, had_target=True, visible_here=True, visible_elsewhere=False, idle_s=1e9), False),
        (Use(None, had_target=True, visible_here=False, visible_elsewhere=False, idle_s=0), True),
        (Use(None, had_target=True, visible_here=False, visible_elsewhere=True, idle_s=0), True),
        (Use(None, had_target=False, visible_here=False, visible_elsewhere=False, idle_s=1e9), False),
        (Use(600, had_target=False, visible_here=False, visible_elsewhere=False, idle_s=599), False),
        (Use(600, had_target=False, visible_here=False, visible_elsewhere=False, idle_s=600), True),
        (Use(600, had_target=False, visible_here=False, visible_elsewhere=True, idle_s=1e9), False),
        (Use(600, had_target=False, visible_here=True, visible_elsewhere=False, idle_s=1e9), False),
        (Use(0, had_target=False, visible_here=False, visible_elsewhere=False, idle_s=0), True),
    ],
)
def test_may_release(use: Use, released: bool) -> None:
    assert may_release(use) is released
