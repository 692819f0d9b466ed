"""All rules together: which records this network knows, and what has been checked already.

Rules:
1. A key of another network, of an unknown kind or of another form is refused like a wrong value.
2. What was checked once is not checked again while it is remembered (`MAX_CHECKED` digests): a
   record is judged when it is put and again each time it is read. `forget` is for whoever changes
   what the rules know, such as the registered hotkeys.
3. Of several values the one of the highest rank wins, the *last* of them on ties: the DHT takes
   the first index to mean that what it has is better, and would never renew its time to live.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from consensus.certificate import Verify
from protocol.codec import sha256
from protocol.errors import ProtocolError
from protocol.records.record_key import DhtKind, RecordKey, network_digits
from validator_node.records.errors import RecordError
from validator_node.records.rules import (
    CheckpointRule,
    ContentRule,
    EvidenceRule,
    IsKnown,
    NodeRule,
    ReservedRule,
    ResultRule,
    Rule,
    SubmissionRule,
    ValidatorsRule,
    VotersOf,
    refusal,
)

MAX_CHECKED: Final = 4_096
_UNDECODABLE: Final = -1


def make_rules(
    network_id: bytes, *, voters_of: VotersOf, verify: Verify, is_known_hotkey: IsKnown
) -> dict[str, Rule]:
    """Return the rule of each kind.

    Args:
        network_id: the network whose signatures count.
        voters_of: the voters of an epoch, None where this node cannot know them.
        verify: checks a consensus key's signature.
        is_known_hotkey: whether a hotkey's submissions and node record are of interest.
    """
    return {
        DhtKind.SUBMISSION: SubmissionRule(network_id, is_known_hotkey),
        DhtKind.RESULT: ResultRule(voters_of, verify),
        DhtKind.VALIDATORS: ValidatorsRule(network_id, voters_of, verify),
        DhtKind.CHECKPOINT: CheckpointRule(voters_of, verify),
        DhtKind.EVIDENCE: EvidenceRule(voters_of, verify),
        DhtKind.NODE: NodeRule(network_id, is_known_hotkey),
        DhtKind.BLOB: ContentRule(),
        DhtKind.BUNDLE: ContentRule(),
        DhtKind.COLLATERAL: ReservedRule(),
    }


class RecordBook:
    """The judge of every record that comes, goes, or lies in the store."""

    def __init__(self, network_id: bytes, rules: Mapping[str, Rule]) -> None:
        self._network = network_digits(network_id)
        self._rules = rules
        self._checked: OrderedDict[bytes, None] = OrderedDict()

    def check(self, key: str, value: bytes) -> None:
        """Raise `RecordError` unless `value` is a record of this network under `key`."""
        parsed, rule = self._find(key)
        if len(value) > rule.max_bytes:
            raise RecordError(
                "too_large", f"{key}: {len(value)} bytes, the limit is {rule.max_bytes}"
            )
        digest = sha256(key.encode(), b"\0", value)
        if digest in self._checked:
            self._checked.move_to_end(digest)
            return
        try:
            rule.check(parsed, value)
        except ProtocolError as error:
            raise refusal(key, error) from error
        self._checked[digest] = None
        if len(self._checked) > MAX_CHECKED:
            self._checked.popitem(last=False)

    def select(self, key: str, values: Sequence[bytes]) -> int:
        """Return the index of the best of `values`, the last of those that rank highest.

        Raises `RecordError` for a key that no record has, `ValueError` for no values.
        """
        _, rule = self._find(key)
        if not values:
            raise ValueError(f"{key}: no values to select from")
        ranks = [_rank(rule, value) for value in values]
        return max(range(len(values)), key=lambda index: (ranks[index], index))

    def newest_wins(self, key: str) -> bool:
        """Return whether a valid value under `key` may still be older than another one."""
        return self._find(key)[1].newest_wins

    def forget(self) -> None:
        """Check everything anew from now on."""
        self._checked.clear()

    def _find(self, key: str) -> tuple[RecordKey, Rule]:
        try:
            parsed = RecordKey.parse(key)
        except ProtocolError as error:
            raise refusal(key[:64], error) from error
        if parsed.network != self._network:
            raise RecordError("wrong_network", f"{key}: this network is {self._network}")
        rule = self._rules.get(parsed.kind)
        if rule is None:
            raise RecordError("unknown_kind", f"{key}: no rule for kind {parsed.kind!r}")
        return parsed, rule


def _rank(rule: Rule, value: bytes) -> int:
    try:
        return rule.rank(value)
    except ProtocolError:
        return _UNDECODABLE
