from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from protocol.codec import Record, decode, encode, sha256
from protocol.errors import DecodeError
from protocol.records.genesis import Genesis, Parameters
from tests.support import World, replaced

GENESIS = World().genesis


def variants(value: Any) -> Iterator[Any]:
    """Yield `value` with each of its leaves changed in turn, and its lists shortened."""
    if isinstance(value, Record):
        for name in value.__struct_fields__:
            for changed in variants(getattr(value, name)):
                yield replaced(value, **{name: changed})
    elif isinstance(value, tuple):
        yield value[:-1]
        for index, member in enumerate(value):
            for changed in variants(member):
                yield (*value[:index], changed, *value[index + 1 :])
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, bytes):
        yield bytes([value[0] ^ 1]) + value[1:]
    else:
        yield value + "x"


def test_the_network_id_is_the_hash_of_the_canonical_genesis() -> None:
    assert GENESIS.network_id == sha256(encode(GENESIS))
    assert decode(Genesis, encode(GENESIS)) == GENESIS


def test_the_network_id_changes_with_anything_in_the_genesis() -> None:
    changed = list(variants(GENESIS))
    network_ids = {genesis.network_id for genesis in changed}
    assert len(network_ids) == len(changed) > 80
    assert GENESIS.network_id not in network_ids


def test_the_order_of_validators_matters() -> None:
    members = GENESIS.validators.members
    swapped = replaced(GENESIS.validators, members=members[::-1])
    assert swapped.set_hash() != GENESIS.validators.set_hash()
    assert replaced(GENESIS, validators=swapped).network_id != GENESIS.network_id


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(Parameters)])
@pytest.mark.parametrize("value", [0, -1, 2**32])
def test_every_parameter_is_positive(name: str, value: int) -> None:
    parameters = replaced(GENESIS.parameters, **{name: value})
    with pytest.raises(DecodeError):
        decode(Genesis, encode(replaced(GENESIS, parameters=parameters)))


def test_a_validator_set_has_members_with_weight() -> None:
    nobody = replaced(GENESIS.validators, members=())
    weightless = replaced(GENESIS.validators.members[0], weight=0)
    for validators in (nobody, replaced(GENESIS.validators, members=(weightless,))):
        with pytest.raises(DecodeError):
            decode(Genesis, encode(replaced(GENESIS, validators=validators)))
