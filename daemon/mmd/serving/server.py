"""How are requests taken in, answered and, at the end, finished? waitress speaks HTTP; this runs it.

Requests are read in one thread and answered by a few others, so that who sends slowly keeps nobody waiting.
"""

import json
import logging
import sys
import time
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

from mmd.config import ServeConfig
from mmd.serving.address import Listener
from mmd.serving.application import Application

_MIB = 2**20
_LOOP_SECONDS = 1.0
_FINISH_SECONDS = 10.0
"""For requests that were taken when the server is told to stop."""
_OWN_DESCRIPTORS = 2
"""The listener, and the pipe that wakes the loop: waitress counts them among the connections."""


class Server:
    """Answers at one listener until `stop`."""

    def __init__(self, application: Application, listener: Listener, config: ServeConfig) -> None:
        largest = int(config.max_request_mib * _MIB)
        self._channels: dict[int, Any] = {}
        self._server = create_server(
            application,
            map=self._channels,
            sockets=[listener.socket],
            threads=config.workers,
            connection_limit=config.max_connections + _OWN_DESCRIPTORS,
            max_request_body_size=largest,
            # What is sent, and what is said about it, stays in memory: neither leaves a trace in a temporary file.
            inbuf_overflow=sys.maxsize,
            outbuf_overflow=sys.maxsize,
            channel_timeout=max(1, round(config.idle_seconds)),
            cleanup_interval=max(1, round(config.idle_seconds / 4)),
            ident="mmd",
        )
        self._server.channel_class = _Channel
        # It would warn of every request that waits for another.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._is_stopping = False

    def run(self) -> None:
        """Answer until `stop` is called, then finish what was taken."""
        while not self._is_stopping:
            wasyncore.loop(timeout=_LOOP_SECONDS, map=self._channels, count=1)
        # Who connected and sent before this gets an answer: one pass accepts, the next one reads.
        wasyncore.loop(timeout=_LOOP_SECONDS / 10, map=self._channels, count=2)
        self._server.accepting = False
        finish_by = time.monotonic() + _FINISH_SECONDS
        while self._close_idle() and time.monotonic() < finish_by:
            wasyncore.loop(timeout=_LOOP_SECONDS / 10, map=self._channels, count=1)
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._channels)

    def stop(self) -> None:
        """End `run`; may be called from a signal's handler and from any thread."""
        self._is_stopping = True
        self._server.pull_trigger()

    def _close_idle(self) -> bool:
        """Close every connection that has no request under way; return whether any is left."""
        for channel in list(self._server.active_channels.values()):
            if not (channel.requests or channel.request is not None or channel.total_outbufs_len):
                channel.will_close = True
        return bool(self._server.active_channels)


class _OneLine(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """Declines what never reaches the application (too big, no HTTP) as the application declines the rest."""

    def execute(self) -> None:
        error = self.request.error
        content = (json.dumps({"error": f"{error.reason}: {' '.join(str(error.body).split())}."}) + "\n").encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(content)
        self.write(content)


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    error_task_class = _OneLine
