"""Settings from the environment: `VALIDATOR_LISTEN_PORT=4001` replaces `listen_port` of the file.

Rules:

1. A name that begins with `VALIDATOR_` and is no setting is an error: it is a mistyped one. What
   Kubernetes adds for a service called `validator` is told apart and left alone.
2. A variable without a value is an error, but for settings that may be empty.
3. A list is JSON (`["one", "two"]`); anything else is text, read as the file's values are.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from validator_node.errors import ConfigError

PREFIX = "VALIDATOR_"
OTHERS = frozenset({"VALIDATOR_PASSPHRASE"})
"""What the program reads from the environment besides its settings."""
_KUBERNETES = re.compile(r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT(_\d+_(TCP|UDP)(_\w+)?)?")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")
"""`VALIDATOR_PORT=tcp://10.0.0.1:4001` is Kubernetes', `VALIDATOR_PORT=4001` a mistyped setting."""


def from_environment(
    fields: Mapping[str, FieldInfo], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return the values of the settings that `environment` holds. Raises `ConfigError`."""
    found: dict[str, Any] = {}
    for variable in sorted(environment):
        name = variable.upper()
        if not name.startswith(PREFIX) or name in OTHERS:
            continue
        field = name.removeprefix(PREFIX).lower()
        value = environment[variable]
        if field in fields:
            found[field] = _value(variable, value, fields[field])
        elif not _is_kubernetes(name, value):
            raise ConfigError(_unknown(variable, fields))
    return found


def variable_of(field: str) -> str:
    """Return the variable that replaces a setting."""
    return f"{PREFIX}{field.upper()}"


def _value(variable: str, text: str, field: FieldInfo) -> Any:  # noqa: ANN401 - the model judges it
    if not text and field.default != "":
        raise ConfigError(
            f"environment variable {variable}: is empty; give it a value, or unset it"
        )
    if get_origin(field.annotation) is not tuple:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ConfigError(
            f"environment variable {variable}: found {text[:60]!r}; expected a JSON list of "
            'texts, such as ["one", "two"]'
        )
    return value


def _is_kubernetes(name: str, value: str) -> bool:
    if not _KUBERNETES.fullmatch(name):
        return False
    return "_SERVICE_" in name or bool(_KUBERNETES_PORT.match(value) or "_PORT_" in name)


def _unknown(variable: str, fields: Mapping[str, FieldInfo]) -> str:
    known = [*fields, *(other.removeprefix(PREFIX).lower() for other in OTHERS)]
    near = difflib.get_close_matches(variable[len(PREFIX) :].lower(), known, n=1)
    meant = f"did you mean {variable_of(near[0])}?" if near else "unset it"
    return f"environment variable {variable}: there is no such setting; {meant}"
