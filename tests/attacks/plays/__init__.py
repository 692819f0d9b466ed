"""The attacks by name, in the order in which a whole run plays them."""

from __future__ import annotations

from tests.attacks.attack import Attack
from tests.attacks.plays.burst import Burst
from tests.attacks.plays.dns_records import DnsRecords
from tests.attacks.plays.floods import ABOUT, Flood
from tests.attacks.plays.idle_connections import IdleConnections
from tests.attacks.plays.idle_requests import IdleRequests
from tests.attacks.plays.overload import Overload
from tests.attacks.plays.silent_mesh import SilentMesh
from tests.attacks.plays.slow_bodies import SlowBodies
from tests.attacks.plays.snapshot_liar import SnapshotLiar
from tests.attacks.plays.star import Star
from tests.attacks.plays.sync_liar import SyncLiar
from tests.attacks.plays.unregistered import Unregistered

ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        *map(Flood, ABOUT),
        Star(),
        SilentMesh(),
        IdleRequests(),
        Unregistered(),
        IdleConnections(),
        DnsRecords(),
        SyncLiar(),
        SlowBodies(),
        SnapshotLiar(),
        Burst(),
        Overload(),
    )
}
