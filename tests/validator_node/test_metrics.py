from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from validator_node import metrics
from validator_node.errors import ConfigError
from validator_node.metrics import MetricsServer, Sources


class Figures:
    height = 5
    settled = 2
    refused: dict[str, int]

    def __init__(self) -> None:
        self.refused = {"busy": 1, 'a "quoted" one': 3}

    def sources(self) -> Sources:
        sources = Sources()
        sources.gauges = {"height": ("Last executed slot", lambda: self.height)}
        sources.counters = {"settled": ("Submissions settled", lambda: self.settled)}
        sources.labelled_gauges = {"jobs": ("Jobs queued", "challenge", lambda: {"alpha": 4})}
        sources.labelled = {"refused": ("Refused", "reason", lambda: self.refused)}
        return sources


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture
def server(figures: Figures) -> Iterator[MetricsServer]:
    running = MetricsServer("127.0.0.1", 0, figures.sources())
    yield running
    running.close()


def scraped(server: MetricsServer) -> dict[tuple[str, ...], float]:
    reply = httpx.get(f"http://127.0.0.1:{server.port}/metrics", trust_env=False)
    reply.raise_for_status()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_a_scrape_shows_the_figures_of_the_moment(server: MetricsServer, figures: Figures) -> None:
    assert scraped(server) == {
        ("validator_height",): 5.0,
        ("validator_jobs", "alpha"): 4.0,
        ("validator_settled_total",): 2.0,
        ("validator_refused_total", "busy"): 1.0,
        ("validator_refused_total", 'a "quoted" one'): 3.0,
    }
    figures.height = 6
    figures.refused["late"] = 1
    after = scraped(server)
    assert after["validator_height",] == 6.0
    assert after["validator_refused_total", "late"] == 1.0


def test_each_family_says_what_it_is(server: MetricsServer) -> None:
    text = httpx.get(f"http://127.0.0.1:{server.port}/metrics", trust_env=False).text
    assert "# HELP validator_height Last executed slot\n# TYPE validator_height gauge" in text
    assert "# TYPE validator_refused_total counter" in text


def test_a_port_in_use_is_the_operators_to_mend(server: MetricsServer) -> None:
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{server.port}.*metrics_port"):
        MetricsServer("127.0.0.1", server.port, Sources())


def test_a_closed_server_frees_its_port(figures: Figures) -> None:
    first = MetricsServer("127.0.0.1", 0, figures.sources())
    first.close()
    with pytest.raises(httpx.ConnectError):
        scraped(first)
    second = MetricsServer("127.0.0.1", first.port, figures.sources())
    assert scraped(second)["validator_height",] == 5.0
    second.close()


def asked(server: MetricsServer, path: str, method: str = "GET") -> httpx.Response:
    url = f"http://127.0.0.1:{server.port}{path}"
    return httpx.request(method, url, trust_env=False)


def test_a_path_that_is_not_there_is_not_the_metrics(server: MetricsServer) -> None:
    for path in ("/", "/metricsx", "/metrics/", "/favicon.ico", "/healthz"):
        assert asked(server, path).status_code == 404, path


def test_head_says_what_get_would_without_the_body(server: MetricsServer) -> None:
    for path, status in (("/metrics", 200), ("/health", 200), ("/nothing", 404)):
        head, get = asked(server, path, "HEAD"), asked(server, path)
        assert (head.status_code, get.status_code) == (status, status)
        assert head.content == b""
        assert head.headers["content-length"] == get.headers["content-length"]
        assert head.headers["content-type"] == get.headers["content-type"]


def test_other_methods_are_named_as_not_allowed(server: MetricsServer) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        refused = asked(server, "/metrics", method)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_health_says_why_the_node_does_not_work(figures: Figures) -> None:
    sources = figures.sources()
    why = ""
    sources.health = lambda: why
    with MetricsServer("127.0.0.1", 0, sources) as server:
        assert (asked(server, "/health").status_code, asked(server, "/health").text) == (
            200,
            "ok\n",
        )
        why = "diverged at slot 9"
        unwell = asked(server, "/health")
        assert (unwell.status_code, unwell.text) == (503, "diverged at slot 9\n")


def test_a_silent_client_is_not_waited_for(
    figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "CLIENT_S", 0.1)
    with (
        MetricsServer("127.0.0.1", 0, figures.sources()) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as client,
    ):
        assert client.recv(1) == b""
