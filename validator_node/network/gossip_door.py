"""The door of gossip: what a message passes before the signature of its author is verified.

Rules:
1. What costs least is looked at first: the topic, the size, the sequence number, whether it is
   known; then the topic's glance. Only then the author's signature is verified and the check asked.
2. A sequence number has exactly eight bytes, as other implementations demand of what is forwarded.
3. What is useless (see `CheckAnswer`) costs work and, honestly, hardly ever occurs. A peer has a
   small budget of it, and all strangers together have one too, because peer ids cost nothing. Who
   is over it is read more slowly, which costs an honest peer no message. Only who brings useless
   messages waits for it: everybody else's are read as before.
4. Budgets belong to a peer, whatever streams it opens, and outlast its connections for a while.
"""

from collections import OrderedDict
from typing import Any, Final

import trio

from validator_node.network.gossip_checks import CheckAnswer, JoinedTopic
from validator_node.network.limits import Gate, Limits, Rate
from validator_node.network.standing import Standing

SEQUENCE_BYTES: Final = 8
MAX_BUDGETS: Final = 1_024
RESERVED_FACTOR: Final = 5
"""How much more that is useless a member or configured peer may bring than another."""
IGNORED_WASTE: Final = 0.1
"""What an ignored message takes of the budget: honest peers bring hundreds when everybody is busy,
and a flood of them is work all the same."""
FORGED_WASTE: Final = 2.0
"""What a forged message takes of the budget: its signature had to be looked at. It is charged too,
so that a forger is banned within seconds."""


class PeerBudget:
    """What one peer may send, over all its streams."""

    def __init__(self, limits: Limits) -> None:
        self.bytes = Rate(limits.gossip_bytes_per_s, trio.current_time)
        self.entries = Rate(limits.gossip_messages_per_s, trio.current_time)
        self.useless = Rate(limits.gossip_useless_per_s, trio.current_time)


class Door:
    """Turns away what is not worth a signature check."""

    def __init__(self, gate: Gate, joined: dict[str, JoinedTopic]) -> None:
        """Guard the topics of `joined`, by name, as they are at any time."""
        self._gate = gate
        self._joined = joined
        self._budgets: OrderedDict[str, PeerBudget] = OrderedDict()
        self._strangers: Rate | None = None

    def budget(self, peer_id: str) -> PeerBudget:
        """Return what a peer may still send; the longest unused are forgotten."""
        found = self._budgets.get(peer_id)
        if found is None:
            found = self._budgets[peer_id] = PeerBudget(self._gate.limits)
            if len(self._budgets) > MAX_BUDGETS:
                self._budgets.popitem(last=False)
        self._budgets.move_to_end(peer_id)
        return found

    def topic_of(self, peer_id: str, message: Any) -> JoinedTopic | None:
        """Return the topic of a well-formed message, or None after counting why it is refused."""
        topics = message.topicIDs
        topic = self._joined.get(topics[0]) if len(topics) == 1 else None
        if not any(name in self._joined for name in topics):
            self.refuse(peer_id, "gossip_unknown_topic")
        elif topic is None:
            self.refuse(peer_id, "gossip_topics")
        elif len(message.data) > topic.max_bytes:
            self.refuse(peer_id, "gossip_too_large", "gossip_rejected")
        elif len(message.seqno) != SEQUENCE_BYTES:
            self.refuse(peer_id, "gossip_sequence")
        else:
            return topic
        return None

    def admits(self, peer_id: str, topic: JoinedTopic, message: Any) -> bool:
        """Ask the topic's glance; False after counting what it turned away."""
        answer = None if topic.glance is None else topic.glance(message.data)
        if answer is None or answer is CheckAnswer.ACCEPT:
            return True
        self.note(peer_id, answer)
        return False

    def note(self, peer_id: str, answer: CheckAnswer) -> None:
        """Count a message that is not accepted, against the peer where it has to be."""
        if answer is CheckAnswer.REJECT:
            self.refuse(peer_id, "gossip_rejected")
            self.spend(peer_id, FORGED_WASTE)
        elif answer is CheckAnswer.USELESS:
            self._gate.counters.count("refused", "gossip_useless")
            self.spend(peer_id, 1.0)
        else:
            self._gate.counters.count("refused", "gossip_check")
            self.spend(peer_id, IGNORED_WASTE)

    def refuse(self, peer_id: str, reason: str, charged: str | None = None) -> None:
        """Count and charge what no honest peer sends."""
        self._gate.counters.count("refused", reason)
        self._gate.scores.charge(peer_id, charged or reason)

    def spend(self, peer_id: str, cost: float) -> None:
        """Take something useless from the budgets of whoever brought it (rule 3)."""
        standing = self._gate.standings.of(peer_id)
        self.budget(peer_id).useless.owe(cost / RESERVED_FACTOR if standing.is_reserved else cost)
        if standing is Standing.STRANGER:
            self._of_strangers().owe(cost)

    def owed_s(self, peer_id: str) -> float:
        """Return the seconds until the budgets are out of debt that a peer draws on."""
        owed = self.budget(peer_id).useless.owe(0.0)
        if self._gate.standings.of(peer_id) is Standing.STRANGER:
            owed = max(owed, self._of_strangers().owe(0.0))
        return owed

    def _of_strangers(self) -> Rate:
        if self._strangers is None:  # made where there is a clock
            per_second = self._gate.limits.gossip_useless_total_per_s
            self._strangers = Rate(per_second, trio.current_time)
        return self._strangers
