from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.codec import encode
from tests.support import World
from validator_node.config import PATHS, NodeConfig, load_config, load_genesis
from validator_node.errors import ConfigError

MINIMAL = """
genesis = "genesis.bin"
keystore = "keys/keystore"
state_dir = "/var/lib/validator"
chain_dir = "../chain"
"""


def written(folder: Path, text: str = MINIMAL) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


def test_defaults_and_paths_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(written(tmp_path))
    assert config.genesis == tmp_path / "genesis.bin"
    assert config.keystore == tmp_path / "keys" / "keystore"
    assert config.chain_dir == tmp_path / ".." / "chain"
    assert config.state_dir == Path("/var/lib/validator")
    assert config.passphrase_file is None
    assert (config.listen_host, config.metrics_host) == ("127.0.0.1", "127.0.0.1")
    assert (config.listen_port, config.metrics_port, config.bootstrap) == (0, 0, ())


def test_all_values_are_read(tmp_path: Path) -> None:
    text = """
passphrase_file = "secret"
listen_host = "0.0.0.0"
listen_port = 4001
metrics_port = 9100
bootstrap = ["/ip4/10.0.0.1/tcp/4001/p2p/x"]
workers = 3
evaluation_deadline_ms = 5000
submissions_per_second = 2.5
max_pending = 7
"""
    config = load_config(written(tmp_path, MINIMAL + text))
    assert config.passphrase_file == tmp_path / "secret"
    assert (config.listen_host, config.listen_port, config.metrics_port) == ("0.0.0.0", 4001, 9100)
    assert config.bootstrap == ("/ip4/10.0.0.1/tcp/4001/p2p/x",)
    assert (config.workers, config.evaluation_deadline_ms) == (3, 5000)
    assert (config.submissions_per_second, config.max_pending) == (2.5, 7)


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, MINIMAL + "listen_port = 1\nworkers = 3\n")
    monkeypatch.setenv("VALIDATOR_LISTEN_PORT", "4001")
    monkeypatch.setenv("LISTEN_HOST", "0.0.0.0")
    config = load_config(path)
    assert (config.listen_port, config.workers) == (4001, 3)
    assert config.listen_host == "127.0.0.1"


def test_a_configuration_cannot_be_changed(tmp_path: Path) -> None:
    config = load_config(written(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        config.workers = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("listen_port = -1", "listen_port"),
        ("listen_port = 65536", "listen_port"),
        ('listen_port = "many"', "listen_port"),
        ("workers = 0", "workers"),
        ("workers = 65", "workers"),
        ("evaluation_deadline_ms = 99", "evaluation_deadline_ms"),
        ("submissions_per_second = 0", "submissions_per_second"),
        ("max_pending = 0", "max_pending"),
        ('bootstrap = "one"', "bootstrap"),
        ("lisen_port = 1", "lisen_port"),
        ('passphrase_file = ""', "passphrase_file: is no path"),
        ('passphrase_file = "a\\u0000b"', "passphrase_file: is no path"),
    ],
)
def test_an_error_names_file_and_field(tmp_path: Path, line: str, field: str) -> None:
    path = written(tmp_path, MINIMAL + line)
    with pytest.raises(ConfigError, match=f"node.toml: {field}"):
        load_config(path)


def test_a_missing_value_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="genesis"):
        load_config(written(tmp_path, MINIMAL.replace("genesis = ", "# ")))


def test_a_bad_environment_variable_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VALIDATOR_BOOTSTRAP", "/ip4/10.0.0.1/tcp/4001")
    with pytest.raises(
        ConfigError, match=r"VALIDATOR_BOOTSTRAP: found '/ip4/.*'; expected a JSON list"
    ):
        load_config(written(tmp_path))


@pytest.mark.parametrize("data", [b"genesis =", b"= 1", b"\xff\xfe"])
def test_what_is_no_toml_is_a_configuration_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"node\.toml"):
        load_config(path)


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            load_config(path)
        with pytest.raises(ConfigError, match=str(path)):
            load_genesis(path)


def test_a_genesis_is_read(tmp_path: Path) -> None:
    genesis = World().genesis
    path = tmp_path / "genesis.bin"
    path.write_bytes(encode(genesis))
    assert load_genesis(path) == genesis
    path.write_bytes(encode(genesis)[:-1])
    with pytest.raises(ConfigError, match=r"genesis\.bin"):
        load_genesis(path)


def test_the_live_chain_in_place_of_the_embedded_one(tmp_path: Path) -> None:
    live = MINIMAL.replace('chain_dir = "../chain"', 'chain_endpoints = ["ws://127.0.0.1:9944"]')
    config = load_config(written(tmp_path, live))
    assert (config.chain_dir, config.chain_endpoints) == (None, ("ws://127.0.0.1:9944",))
    assert config.on_no_weights == "abstain"


@pytest.mark.parametrize(
    "text",
    [MINIMAL.replace('chain_dir = "../chain"', ""), MINIMAL + 'chain_endpoints = ["ws://a:1"]\n'],
)
def test_there_is_one_chain(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"node\.toml: Value error, chain_endpoints or chain_dir: one of"
    ):
        load_config(written(tmp_path, text))


def test_an_endpoint_is_stale_before_the_chain_is_hopeless(tmp_path: Path) -> None:
    text = MINIMAL + "chain_stale_s = 60\nchain_hopeless_s = 60\n"
    with pytest.raises(ConfigError, match=r"chain_stale_s: 60 s must be less than chain_hopeless"):
        load_config(written(tmp_path, text))


def test_paths_of_the_environment_are_relative_to_the_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("VALIDATOR_STATE_DIR", "state")
    monkeypatch.setenv("VALIDATOR_KEYSTORE", "/etc/keystore")
    monkeypatch.setenv("VALIDATOR_PASSPHRASE_FILE", "../secret")
    config = load_config(written(tmp_path))
    assert config.state_dir == tmp_path / "state"
    assert config.keystore == Path("/etc/keystore")
    assert config.passphrase_file == tmp_path / ".." / "secret"


def test_every_setting_that_is_a_path_is_relative_to_the_file() -> None:
    paths = {name for name, field in NodeConfig.model_fields.items() if "Path" in str(field)}
    assert paths == set(PATHS)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("VALIDATOR_LISEN_PORT", "1", "no such setting; did you mean VALIDATOR_LISTEN_PORT?"),
        ("VALIDATOR_METRIC_PORT", "1", "no such setting; did you mean VALIDATOR_METRICS_PORT?"),
        ("VALIDATOR_PASPHRASE", "x", "no such setting; did you mean VALIDATOR_PASSPHRASE"),
        ("VALIDATOR_XYZZY", "1", "no such setting; unset it"),
        ("VALIDATOR_LISTEN_PORT", "", "is empty; give it a value, or unset it"),
        ("VALIDATOR_GENESIS", "", "is empty"),
        ("VALIDATOR_BOOTSTRAP", "", "is empty"),
        ("VALIDATOR_BOOTSTRAP", "[1]", "expected a JSON list of texts"),
        ("VALIDATOR_BOOTSTRAP", "[" * 100_000, "expected a JSON list of texts"),
        ("VALIDATOR_LISTEN_PORT", "many", "Input should be a valid integer"),
        ("VALIDATOR_WORKERS", "0", "greater than or equal to 1"),
        ("VALIDATOR_EXTERNAL_ADDRS", '["nonsense"]', "nonsense"),
        ("VALIDATOR_MDNS", "perhaps", "Input should be a valid boolean"),
    ],
)
def test_a_wrong_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"^environment variable {variable}: ") as caught:
        load_config(written(tmp_path))
    assert words in str(caught.value)


def test_the_environment_can_say_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "BOOTSTRAP": '["one", "two"]',
        "TRUSTED_CHECKPOINT": "",
        "PEER_EXCHANGE": "false",
        "SUBMISSIONS_PER_SECOND": "2.5",
        "ON_NO_WEIGHTS": "last_certified",
        "RETAIN_SLOTS": "0",
    }.items():
        monkeypatch.setenv(f"VALIDATOR_{name}", value)
    config = load_config(written(tmp_path, MINIMAL + 'trusted_checkpoint = "7:00"\n'))
    assert config.bootstrap == ("one", "two")
    assert (config.trusted_checkpoint, config.peer_exchange) == ("", False)
    assert (config.submissions_per_second, config.retain_slots) == (2.5, 0)
    assert config.on_no_weights == "last_certified"


def test_what_kubernetes_adds_for_a_service_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "4001",
        "SERVICE_PORT_P2P": "4001",
        "PORT": "tcp://10.0.0.1:4001",
        "PORT_4001_TCP": "tcp://10.0.0.1:4001",
        "PORT_4001_TCP_ADDR": "10.0.0.1",
        "API_SERVICE_HOST": "10.0.0.2",
        "API_PORT_80_TCP_PROTO": "tcp",
    }.items():
        monkeypatch.setenv(f"VALIDATOR_{name}", value)
    load_config(written(tmp_path))
    monkeypatch.setenv("VALIDATOR_PORT", "4001")
    with pytest.raises(ConfigError, match=r"VALIDATOR_PORT: there is no such setting"):
        load_config(written(tmp_path))


def test_a_mistyped_setting_of_the_file_is_told_its_neighbour(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lisen_port: there is no such .* mean listen_port\?"):
        load_config(written(tmp_path, MINIMAL + "lisen_port = 1\n"))


def test_a_mistake_across_settings_names_file_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VALIDATOR_CHAIN_ENDPOINTS", '["ws://a:1"]')
    with pytest.raises(ConfigError, match=r"toml \(and VALIDATOR_CHAIN_ENDPOINTS\): .*one of"):
        load_config(written(tmp_path))


@pytest.mark.parametrize("change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n")])
def test_a_file_of_another_editor_is_read(tmp_path: Path, change: Callable[[str], str]) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(change(MINIMAL).encode())
    assert load_config(path).genesis == tmp_path / "genesis.bin"
