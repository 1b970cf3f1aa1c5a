"""Hands chunks from a worker thread to the trio thread, in order, the thread at most some chunks ahead.

The thread takes a credit for each chunk and posts it to the trio thread, which gives the credit back once the chunk was
delivered. What *deliver* raises is kept for the waiting task, and the thread is told to stop by the answer of `send`.
Since posts are handled in order, all chunks have been delivered when the end of the thread's work is known.
"""

from __future__ import annotations

import threading

import trio

from gridfs.store.base import Deliver


class Relay:
    """One stream's way into the trio thread; made there."""

    def __init__(self, deliver: Deliver, *, chunks_ahead: int) -> None:
        self.delivered_bytes = 0
        self.failure: BaseException | None = None
        """What *deliver* raised."""
        self._deliver = deliver
        self._token = trio.lowlevel.current_trio_token()
        self._credits = threading.Semaphore(chunks_ahead)
        self._stopped = False

    def send(self, chunk: memoryview) -> bool:
        """Called in the worker thread: passes *chunk* on; False when nobody wants more."""
        self._credits.acquire()
        if not self._stopped:
            try:
                self._token.run_sync_soon(self._accept, chunk)
            except trio.RunFinishedError:
                self._stopped = True
        return not self._stopped

    def stop(self) -> None:
        """Called in the trio thread: delivers nothing from now on, and lets the worker thread go."""
        self._stopped = True
        self._credits.release()

    def _accept(self, chunk: memoryview) -> None:
        try:
            if not self._stopped:
                self._deliver(chunk)
                self.delivered_bytes += chunk.nbytes
        except BaseException as error:  # raised again by the task that asked for the stream
            self.failure = error
            self._stopped = True
        finally:
            self._credits.release()
