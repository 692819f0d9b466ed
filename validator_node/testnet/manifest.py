"""A trial's manifest: the network, its load, and what is done to it when.

Rules: times are seconds after the load began; a node is named by its index, validators first, then
observers. An event with `for` ends by itself. Everything that can be seen to be wrong in the file
is refused before anything starts, with the file, the field and what was expected.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from challenges import examples
from protocol.records.submission import MAX_BODY_BYTES
from validator_node.errors import ConfigError, TestnetError
from validator_node.files import read_text

MAX_VALIDATORS = 16
MAX_OBSERVERS = 8
MAX_EVENTS = 200
MAX_SKEW_MS = 3_600_000

Seconds = Annotated[float, Field(ge=0, le=86_400)]
Length = Annotated[float, Field(gt=0, le=86_400)]
NodeIndex = Annotated[int, Field(ge=0, lt=MAX_VALIDATORS + MAX_OBSERVERS)]


class ManifestError(TestnetError, ConfigError):
    """A manifest that cannot be run; the message names file, field and expectation."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Event(_Part):
    at: Seconds


class _OnNode(_Event):
    node: NodeIndex


class Kill(_OnNode):
    """`kill -9`; with `for` the node is started again after that time."""

    kind: Literal["kill"] = "kill"
    lasts: Length | None = Field(default=None, alias="for")


class Restart(_OnNode):
    """Ends the node (SIGTERM) if it runs, and starts it."""

    kind: Literal["restart"] = "restart"
    wipe: bool = False
    """Start with an empty database and without the journal: it must not vote any more."""


class Pause(_OnNode):
    """SIGSTOP, and SIGCONT after `for`."""

    kind: Literal["pause"] = "pause"
    lasts: Length = Field(alias="for")


class Disconnect(_OnNode):
    """Cuts the node's connections to all other nodes and refuses new ones."""

    kind: Literal["disconnect"] = "disconnect"
    lasts: Length | None = Field(default=None, alias="for")


class Partition(_Event):
    """Swallows everything between the groups: connections stay open and go silent."""

    kind: Literal["partition"] = "partition"
    groups: Annotated[tuple[tuple[NodeIndex, ...], ...], Field(min_length=2)]
    """Nodes that are named in no group make up one more."""
    lasts: Length | None = Field(default=None, alias="for")


class Heal(_Event):
    """Makes all links whole: ends partitions, disconnects and slow links."""

    kind: Literal["heal"] = "heal"


class SlowLink(_Event):
    """Delays, limits to `rate`, and now and then loses what passes on links."""

    kind: Literal["slow_link"] = "slow_link"
    node: NodeIndex | None = None
    pair: tuple[NodeIndex, NodeIndex] | None = None
    delay_ms: Annotated[float, Field(ge=0, le=60_000)] = 0.0
    """One way."""
    rate: Annotated[int, Field(ge=0)] = 0
    """Bytes a second each way and link; 0 for no limit."""
    loss: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """The part of what is sent that is lost, and sent again as TCP does: everything behind it
    waits."""
    lasts: Length | None = Field(default=None, alias="for")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.node is None) == (self.pair is None):
            raise ValueError("give either node or pair")
        if not self.delay_ms and not self.rate and not self.loss:
            raise ValueError("give delay_ms, rate or loss")
        return self


class Move(_OnNode):
    """Restarts the node at another port: its address is not the one that others know."""

    kind: Literal["move"] = "move"


class ClockSkew(_OnNode):
    """Restarts the node with a clock that is `ms` ahead (negative: behind)."""

    kind: Literal["clock_skew"] = "clock_skew"
    ms: Annotated[int, Field(ge=-MAX_SKEW_MS, le=MAX_SKEW_MS)]
    lasts: Length | None = Field(default=None, alias="for")
    """After this time it restarts with the right clock."""


class Join(_OnNode):
    """Starts a node for the first time, with an empty folder."""

    kind: Literal["join"] = "join"


class Leave(_OnNode):
    """Ends a node (SIGTERM) for good."""

    kind: Literal["leave"] = "leave"


class DiskFull(_OnNode):
    """The node can write nothing more; if it ends because of that it is started again after."""

    kind: Literal["disk_full"] = "disk_full"
    lasts: Length = Field(alias="for")


Event = Annotated[
    Kill
    | Restart
    | Pause
    | Disconnect
    | Partition
    | Heal
    | SlowLink
    | Move
    | ClockSkew
    | Join
    | Leave
    | DiskFull,
    Field(discriminator="kind"),
]


class Miners(_Part):
    """The load."""

    count: Annotated[int, Field(ge=1, le=32)] = 2
    interval: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Seconds between two messages of a miner."""
    per_message: Annotated[int, Field(ge=1, le=64)] = 2
    """Submissions in one message."""
    body_bytes: Annotated[int, Field(ge=0, le=MAX_BODY_BYTES)] = 0
    """The length to which every fourth body is filled up; 0: none is. Above 4 KiB it travels by
    hash; some challenge must take bodies so long."""
    skill: Annotated[tuple[Annotated[int, Field(ge=0, le=3)], ...], Field(min_length=1)] = (
        0,
        1,
        2,
        3,
    )
    """Skills of the miners in order, repeated."""


class Manifest(_Part):
    """One trial."""

    name: Annotated[str, Field(max_length=80)] = "trial"
    seed: int | None = None
    """The generator's seed, in a generated manifest."""
    validators: Annotated[int, Field(ge=1, le=MAX_VALIDATORS)] = 4
    stakes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...], Field(min_length=1)
    ] = (310, 270, 230, 190)
    """In TAO, in the validators' order, repeated."""
    observers: Annotated[int, Field(ge=0, le=MAX_OBSERVERS)] = 0
    challenges: tuple[str, ...] = ()
    """Names of example challenges; empty for all."""
    reach: Literal["ip4", "ip6", "dns"] = "ip4"
    """What stands in the addresses under which nodes know each other: numbers of IPv4 or IPv6, or a
    name."""
    duration: Annotated[float, Field(ge=5, le=86_400)] = 60.0
    """Seconds of load."""
    miners: Miners = Miners()
    event: Annotated[tuple[Event, ...], Field(max_length=MAX_EVENTS)] = ()

    @property
    def nodes(self) -> int:
        """Validators and observers together."""
        return self.validators + self.observers

    def stake(self, node: int) -> int:
        """Return a node's stake; 0 for an observer."""
        return self.stakes[node % len(self.stakes)] if node < self.validators else 0

    @property
    def starts_later(self) -> frozenset[int]:
        """The nodes that a `join` event starts."""
        return frozenset(event.node for event in self.event if isinstance(event, Join))

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = (*examples.names(), *examples.component_names())
        unknown = set(self.challenges) - set(known)
        if unknown:
            raise ValueError(
                f"challenges: no example is called {', '.join(sorted(unknown))}; there are "
                f"{', '.join(known)}"
            )
        for place, event in enumerate(self.event):
            end = event.at + (getattr(event, "lasts", None) or 0)
            if end > self.duration:
                raise ValueError(
                    f"event[{place}] ({event.kind}): it ends at {end:g} s, after the duration of "
                    f"{self.duration:g} s"
                )
            self._check_nodes(place, event)
        return self

    def _check_nodes(self, place: int, event: Event) -> None:
        named: list[int] = []
        if isinstance(event, Partition):
            named = [node for group in event.groups for node in group]
        elif isinstance(event, SlowLink) and event.pair is not None:
            named = list(event.pair)
        elif getattr(event, "node", None) is not None:
            named = [event.node]  # type: ignore[union-attr, list-item]
        if len(set(named)) != len(named):
            raise ValueError(f"event[{place}] ({event.kind}): a node is named twice")
        for node in named:
            if node >= self.nodes:
                raise ValueError(
                    f"event[{place}] ({event.kind}): there is no node {node}: the nodes are 0 to "
                    f"{self.nodes - 1}"
                )


def parse_manifest(values: dict[str, Any], source: str) -> Manifest:
    """Return the manifest in `values`; `ManifestError` names `source`, field and expectation."""
    from validator_node.testnet.timeline import check_timeline

    try:
        manifest = Manifest(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
        ).lstrip(".")
        message = first["msg"].removeprefix("Value error, ")
        raise ManifestError(
            f"manifest {source}: {f'{field}: ' if field else ''}{message}"
        ) from error
    try:
        check_timeline(manifest)
    except ManifestError as error:
        raise ManifestError(f"manifest {source}: {error}") from error
    return manifest


def load_manifest(path: Path) -> Manifest:
    """Read a manifest file; `ManifestError` names file, field and expectation."""
    try:
        values = tomllib.loads(read_text(path, "manifest"))
    except ConfigError as error:
        raise ManifestError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"manifest {path}: {error}") from error
    return parse_manifest(values, str(path))


def manifest_text(manifest: Manifest) -> str:
    """Return the TOML of a manifest; reading it gives the same manifest."""
    values = manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    miners, events = values.pop("miners"), values.pop("event")
    lines = [_toml_line(name, value) for name, value in values.items()]
    lines += ["", "[miners]", *[_toml_line(name, value) for name, value in miners.items()]]
    for event in events:
        lines += ["", "[[event]]", *[_toml_line(name, value) for name, value in event.items()]]
    return "\n".join(lines) + "\n"


def _toml_line(name: str, value: object) -> str:
    return f"{name} = {json.dumps(value)}"  # JSON's values, but null, are TOML as they stand
