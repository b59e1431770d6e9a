"""A server in this process, for tests that need its inside; and the command in a process of its own."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import eventually
from tests.tiny import Board

from mmd.config import SamplesConfig, ServeConfig
from mmd.serving.address import listen
from mmd.serving.application import Application
from mmd.serving.client import UnixConnection
from mmd.serving.predictor import Predictor
from mmd.serving.server import Server


@contextlib.contextmanager
def served(board: Board, predictor: Predictor | None = None, **config: Any) -> Iterator[Path]:
    """Serve `board` from a thread until the end of the block; yield the socket."""
    settings = ServeConfig(**config)
    chosen = predictor or Predictor(board.state)
    listener = listen(str(board.state.serve_socket))
    application = Application(
        board.state, chosen, is_tcp=False, limits=SamplesConfig(), keeps_samples=settings.keep_samples
    )
    server = Server(application, listener, settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield board.state.serve_socket
    finally:
        server.stop()
        thread.join()
        listener.close()


@contextlib.contextmanager
def serving(
    state: Path, *options: object, config: str = "", environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Run `mmd serve` until the end of the block; without `options` it answers when the block begins."""
    file = state.parent / "serve.toml"
    file.write_text(config)
    command = [sys.executable, "-m", "mmd", "serve", "--state-dir", str(state), "--config", str(file)]
    with subprocess.Popen(
        [*command, *map(str, options)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    ) as process:
        try:
            if not options:
                eventually(lambda: process.poll() is not None or answers(state / "serve.sock"))
            yield process
        finally:
            process.kill()


def answers(path: Path) -> bool:
    try:
        with contextlib.closing(UnixConnection(path)) as connection:
            return connection.ask("GET", "/health")[0] == 200
    except OSError:
        return False
