"""What does the server answer to each request? A WSGI application; docs/serve.md describes it for its callers."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mmd.artifact.card import generation_folder, read_card
from mmd.artifact.review import phase_of
from mmd.config import SamplesConfig
from mmd.errors import InputRefused, MmdError, UsageError, unforeseen
from mmd.layout import StateDir
from mmd.serving.predictor import Predictor

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_UNNAMED = "-"
"""What a sample is called whose request says nothing, as a pipe is."""

log = logging.getLogger(__name__)

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


@dataclass(frozen=True)
class Request:
    """What the application reads of a request."""

    body: bytes
    query: dict[str, str]

    @property
    def path(self) -> str:
        """What the caller calls the sample."""
        return self.query.get("path", _UNNAMED)


class _Declined(Exception):
    """A request that gets `status` and one line instead of an answer."""

    def __init__(self, status: HTTPStatus, message: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = list(headers)


class Application:
    """Answers for one state folder."""

    def __init__(
        self, state: StateDir, predictor: Predictor, *, is_tcp: bool, limits: SamplesConfig, keeps_samples: bool
    ) -> None:
        """`limits` are those of `mmd ingest`; `is_tcp`: whether every program of this machine can connect."""
        self._state = state
        self._predictor = predictor
        self._is_tcp = is_tcp
        self._limits = limits
        self._keeps_samples = keeps_samples
        self._routes: dict[tuple[str, str], Callable[[Request], Iterator[str]]] = {
            ("POST", "/predict"): self._predict,
            ("POST", "/samples"): self._keep,
            ("GET", "/health"): self._health,
            ("GET", "/model"): self._model,
        }

    def __call__(self, environment: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        headers: list[tuple[str, str]] = []
        try:
            lines = list(self._route(environment))
            status = HTTPStatus.OK
        except _Declined as declined:
            status, lines, headers = declined.status, [_error(declined)], declined.headers
        except (InputRefused, UsageError) as refusal:
            status, lines = HTTPStatus.BAD_REQUEST, [_error(refusal)]
        except MmdError as error:
            log.warning("%s", error)
            status, lines = HTTPStatus.SERVICE_UNAVAILABLE, [_error(error)]
        except Exception as error:  # the last resort: one client's request never ends the others' server
            log.exception("a request failed")
            status, lines = HTTPStatus.INTERNAL_SERVER_ERROR, [json.dumps({"error": unforeseen(error)})]
        content = "".join(f"{line}\n" for line in lines).encode()
        kind = "application/json" if len(lines) == 1 else "application/x-ndjson"
        headers += [("Content-Type", kind), ("Content-Length", str(len(content)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [content]

    def _route(self, environment: dict[str, Any]) -> Iterator[str]:
        self._require_own(environment)
        method, path = environment["REQUEST_METHOD"], environment["PATH_INFO"]
        handler = self._routes.get((method, path))
        if handler is None:
            raise self._unknown(method, path)
        query = parse_qs(environment.get("QUERY_STRING", ""), errors="replace")
        body: bytes = environment["wsgi.input"].read()
        return handler(Request(body, {name: values[-1] for name, values in query.items()}))

    def _unknown(self, method: str, path: str) -> _Declined:
        methods = [known for known, place in self._routes if place == path]
        if methods:
            allowed = ", ".join(methods)
            return _Declined(
                HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes {allowed}, not {method}.", [("Allow", allowed)]
            )
        known = ", ".join(" ".join(route) for route in self._routes)
        return _Declined(HTTPStatus.NOT_FOUND, f"There is no {path[:80]!r} here; there are {known}.")

    def _require_own(self, environment: dict[str, Any]) -> None:
        """Decline what a web page in the owner's browser sends: it may reach this port, and must learn nothing."""
        host = _host_name(environment.get("HTTP_HOST", "localhost"))
        if "HTTP_ORIGIN" in environment or (self._is_tcp and host not in _LOCAL_NAMES):
            raise _Declined(HTTPStatus.FORBIDDEN, "Web pages may not ask this server.")

    def _predict(self, request: Request) -> Iterator[str]:
        _require_body(request)
        yield from self._predictor.predict(request.body).json_lines(request.path)

    def _keep(self, request: Request) -> Iterator[str]:
        """Store what is sent as `mmd ingest` does: an answer means that it survives a power cut."""
        from mmd.artifact.load import read_set
        from mmd.artifact.preprocess import Resampler
        from mmd.samples.ingest import ingest_bytes
        from mmd.samples.store import SampleStore

        if not self._keeps_samples:
            raise _Declined(
                HTTPStatus.FORBIDDEN, "The owner has not allowed to keep samples: serve.keep_samples is false."
            )
        _require_body(request)
        label = request.query.get("label")
        with SampleStore(self._state.samples_db, quota_mib=self._limits.quota_mib) as store:
            resample = Resampler.of(read_set(self._state.artifact_set)) if store.form.kind == "audio" else None
            try:
                if label is not None:
                    store.form.require_class(label)
                kept = ingest_bytes(
                    store, request.body, self._limits, resample, label=label, source=f"request {request.path}"
                )
            except InputRefused as refusal:
                raise InputRefused(f"Nothing was stored: {refusal}") from refusal
        for added in kept:
            described = {"id": added.id, "outcome": added.outcome.value, "label": added.label, "holdout": added.holdout}
            yield json.dumps({"path": request.path, **described})

    def _health(self, request: Request) -> Iterator[str]:
        yield json.dumps({"status": "ok", "generation": self._predictor.generation})

    def _model(self, request: Request) -> Iterator[str]:
        model = self._predictor.model
        folder = generation_folder(self._state.models, model.generation)
        yield json.dumps(
            {
                "generation": model.generation,
                "sha256": model.sha256,
                "phase": phase_of(folder, read_card(folder), time.time()),
                "classes": list(model.classes),
                "input": model.input,
            }
        )


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None  # a bracket that nobody closed


def _require_body(request: Request) -> None:
    if not request.body:
        raise InputRefused("The request has no body; send the bytes of a file.")


def _error(error: Exception) -> str:
    return json.dumps({"error": " ".join(str(error).split())})
