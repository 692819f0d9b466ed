from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

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
