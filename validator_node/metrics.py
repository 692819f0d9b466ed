"""Prometheus metrics: read from the node's services when they are scraped.

Nothing is pushed: each scrape reads plain integers that the services keep anyway.

| path | answer |
|---|---|
| `/metrics` | 200, the figures |
| `/health` | 200 `ok`, or 503 and why this node does not do its work |
| any other | 404 |

GET and HEAD are answered, any other method is 405. A client has `CLIENT_S` for its request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from validator_node.errors import ConfigError

PREFIX = "validator_"
CLIENT_S = 10.0
"""Seconds that a client may be silent: each one holds a thread and an open file."""
_TEXT = ("Content-Type", "text/plain; charset=utf-8")

_Page = tuple[str, list[tuple[str, str]], bytes]
"""(status, headers, body)"""
Labelled = tuple[str, str, Callable[[], Mapping[str, float]]]
"""(what it means, the label's name, label value -> figure)"""


@dataclass
class Sources:
    """Where the figures come from."""

    gauges: dict[str, tuple[str, Callable[[], float]]] = field(default_factory=dict)
    """name -> (what it means, value)"""
    counters: dict[str, tuple[str, Callable[[], float]]] = field(default_factory=dict)
    labelled_gauges: dict[str, Labelled] = field(default_factory=dict)
    labelled: dict[str, Labelled] = field(default_factory=dict)
    """Counters with a label."""
    health: Callable[[], str] = lambda: ""
    """Returns why the node does not do its work, or nothing."""


class NodeCollector(Collector):
    """Turns the sources into metric families."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        for name, (text, value) in self._sources.gauges.items():
            yield GaugeMetricFamily(PREFIX + name, text, value=value())
        for name, (text, value) in self._sources.counters.items():
            yield CounterMetricFamily(PREFIX + name, text, value=value())
        for name, (text, label, values) in self._sources.labelled_gauges.items():
            gauge = GaugeMetricFamily(PREFIX + name, text, labels=[label])
            for key, value_now in dict(values()).items():
                gauge.add_metric([key], value_now)
            yield gauge
        for name, (text, label, values) in self._sources.labelled.items():
            family = CounterMetricFamily(PREFIX + name, text, labels=[label])
            for key, count in dict(values()).items():
                family.add_metric([key], count)
            yield family


def pages(metrics: WSGIApplication, health: Callable[[], str]) -> WSGIApplication:
    """Return the application that serves what the module's table lists."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        is_head = environ["REQUEST_METHOD"] == "HEAD"
        status, headers, body = _answer(environ, metrics, health)
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if is_head else [body]

    return answer


def _answer(environ: WSGIEnvironment, metrics: WSGIApplication, health: Callable[[], str]) -> _Page:
    if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
        return "405 Method Not Allowed", [_TEXT, ("Allow", "GET, HEAD")], b"use GET or HEAD\n"
    match environ["PATH_INFO"]:
        case "/metrics":
            return _collected(metrics, {**environ, "REQUEST_METHOD": "GET"})
        case "/health":
            why = health()
            status = "503 Service Unavailable" if why else "200 OK"
            return status, [_TEXT], f"{why or 'ok'}\n".encode()
        case _:
            return "404 Not Found", [_TEXT], b"there are /metrics and /health\n"


def _collected(application: WSGIApplication, environ: WSGIEnvironment) -> _Page:
    """Return status, headers and body of what `application` answers."""
    found: tuple[str, list[tuple[str, str]]] = ("", [])

    def start(status: str, headers: list[tuple[str, str]], *_: object) -> Callable[..., object]:
        nonlocal found
        found = status, headers
        return lambda _data: None

    body = b"".join(application(environ, start))
    return *found, body


class _ImpatientHandler(WSGIRequestHandler):
    """Reads one request, logs nothing, and does not wait for ever."""

    def setup(self) -> None:
        """Set the deadline of every read."""
        self.request.settimeout(CLIENT_S)
        super().setup()

    def log_message(self, *_: object) -> None:
        """Say nothing: scrapes are no news."""


class MetricsServer:
    """The metrics endpoint, in a thread of its own."""

    def __init__(self, host: str, port: int, sources: Sources) -> None:
        registry = CollectorRegistry()
        registry.register(NodeCollector(sources))
        try:
            server: tuple[WSGIServer, Thread] = start_http_server(port, host, registry)
        except OSError as error:
            raise ConfigError(
                f"metrics on {host}:{port}: {error.strerror}; set another metrics_port, or another "
                "metrics_host"
            ) from error
        self._server, self._thread = server
        self._server.set_app(pages(make_wsgi_app(registry), sources.health))
        self._server.RequestHandlerClass = _ImpatientHandler
        self.port = int(self._server.server_port)

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
