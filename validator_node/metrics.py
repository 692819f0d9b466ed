"""Prometheus metrics: read from the node's services when they are scraped.

Nothing is pushed: each scrape reads plain integers that the services keep anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from validator_node.errors import ConfigError

PREFIX = "validator_"


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


class MetricsServer:
    """The metrics endpoint, in a thread of its own."""

    def __init__(self, host: str, port: int, sources: Sources) -> None:
        registry = CollectorRegistry()
        registry.register(NodeCollector(sources))
        try:
            server: tuple[WSGIServer, Thread] = start_http_server(port, host, registry)
        except OSError as error:
            raise ConfigError(
                f"metrics on {host}:{port}: {error.strerror}; set another metrics_port"
            ) from error
        self._server, self._thread = server
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
