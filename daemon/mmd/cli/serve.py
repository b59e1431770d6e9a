"""`mmd serve`: the serving model behind a socket."""

import os
import signal
import sys

import click

from mmd.cli.main import Session, pass_session
from mmd.errors import MmdError


@click.command(short_help="Answer programs on this machine with the serving model.")
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="A socket's path, or 127.0.0.1:PORT [default: serve.listen, else serve.sock in the state folder].",
)
@pass_session
def serve(session: Session, listen: str | None) -> None:
    """Answer programs on this machine with whatever model serves, over HTTP on a Unix socket or the loopback.

    A new model answers as soon as it is promoted, with no request lost. Runs until SIGTERM or Ctrl-C, and finishes
    what it has taken. Nothing but this machine can reach it.
    """
    import logging

    import msgspec

    # Before onnxruntime is imported, which would set a format of its own.
    logging.basicConfig(stream=sys.stderr, format="mmd: %(message)s", level=logging.INFO)

    from mmd.serving.address import listen as bind
    from mmd.serving.address import passed_listener
    from mmd.serving.application import Application
    from mmd.serving.model_watch import ModelWatch
    from mmd.serving.predictor import Predictor
    from mmd.supervisor.notify import Notifier

    try:
        from mmd.serving.server import Server
    except ModuleNotFoundError as error:
        raise MmdError(
            f"`mmd serve` needs {error.name}, which is not installed; `pip install 'mmd-daemon[serve]'` brings it."
        ) from error

    state, config, notifier = session.initialised_state(), session.config, Notifier()
    unpacked_mib = min(config.samples.quota_mib, config.serve.max_request_mib)
    limits = msgspec.structs.replace(config.samples, quota_mib=unpacked_mib)
    predictor = Predictor(state, limits=limits, is_refreshed=True)
    listener = (None if listen else passed_listener(os.environ)) or bind(
        listen or config.serve.listen or str(state.serve_socket)
    )
    try:
        application = Application(
            state,
            predictor,
            is_tcp=listener.is_tcp,
            limits=config.samples,
            keeps_samples=config.serve.keep_samples,
        )
        server = Server(application, listener, config.serve)
        watch = ModelWatch(state, predictor.refresh)
        predictor.refresh()  # a model that was promoted before the watch began
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        serving = f"generation {predictor.generation} answers at {listener.url}"
        logging.getLogger("mmd.serving").info("%s", serving)
        notifier.ready(serving)
        server.run()
        notifier.stopping()
        watch.stop()
    finally:
        listener.close()
