"""What ends a daemon whose session a defect has ended, while a thread of it waits for an answer of the daemon itself.

Such a thread (it has the kernel read files of the mount) waits in the kernel until it is answered, trio waits for the
thread, and readers would wait for both for ever. Killed, the process closes the FUSE device, and all of them get an
error at once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

import trio

from gridfs.errors import EXIT_BUG

logger = logging.getLogger(__name__)


async def end_in_time(limit_s: float, ends_well: Callable[[], bool]) -> None:
    """A task that waits to be cancelled. Unless *ends_well* then, the process has *limit_s* to end by itself."""
    try:
        await trio.sleep_forever()
    finally:
        if not ends_well():
            timer = threading.Timer(limit_s, _end, [limit_s])
            timer.daemon = True
            timer.start()


def _end(limit_s: float) -> None:
    logger.error("defect: a failed daemon did not end within %g s, and is killed", limit_s)
    os._exit(EXIT_BUG)
