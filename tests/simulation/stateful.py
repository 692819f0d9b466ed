"""Members whose epochs end by execution: the real state decides where, and who votes next.

The chain of this world says, for each epoch, which hotkeys hold which stake; that is the plan's
`sets`. A batch carries statements of all validators and, besides the metagraph, one that nobody has
seen. The invariants judge every certificate by the plan's sets, not by those that were elected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from consensus.inputs import Edge
from consensus.validators import Voters
from protocol.actions import Action
from protocol.codec import ZERO_DIGEST, digest_of, encode, sha256
from protocol.records.batch import Batch, Header
from protocol.records.consensus_key import KeyBinding, SignedKey
from protocol.records.genesis import ChainParameters, Genesis, Neuron
from protocol.records.metagraph import EpochMetagraph, WeightRules
from protocol.records.statement import Observation, Statement, StatementHeader
from protocol.records.validators import Validator, ValidatorSet
from protocol.view import DictView
from registry import keys
from registry.access import current_epoch, read
from registry.catalog import write_genesis
from registry.election import electorate, why_not_bound
from registry.epochs import edge_at
from tests.simulation.network import Network
from tests.simulation.plan import Plan
from tests.simulation.replica import Replica
from tests.simulation.signing import NETWORK, consensus_key, hotkey
from validator_node.execution import execute

UNSIGNED = bytes(64)
"""Nobody checks the signatures of statements here."""


@dataclass(frozen=True)
class ElectedPlan(Plan):
    """A plan whose sets come about by election. Hotkeys are numbered; the number is the uid."""

    new_keys: tuple[tuple[int, int, int], ...] = ()
    """(member, hotkey, epoch): the member is the process of the hotkey's new consensus key, which
    is bound in that epoch."""

    def hotkey_of(self, member: int) -> int:
        return {number: held for number, held, _ in self.new_keys}.get(member, member)

    def stakes(self, epoch: int) -> dict[int, int]:
        """Return hotkey -> stake."""
        chosen = self.sets[min(epoch, len(self.sets) - 1)]
        return {self.hotkey_of(member): stake for member, stake in chosen}

    def validators(self, epoch: int) -> ValidatorSet:
        chosen = self.sets[min(epoch, len(self.sets) - 1)]
        return ValidatorSet(
            epoch=epoch,
            members=tuple(
                Validator(
                    hotkey=hotkey(self.hotkey_of(member)),
                    consensus_key=consensus_key(member),
                    weight=stake,
                )
                for member, stake in chosen
            ),
        )

    def neurons(self, epoch: int) -> tuple[Neuron, ...]:
        stakes = self.stakes(epoch)
        everyone = sorted({self.hotkey_of(member) for member in range(self.members)})
        return tuple(
            Neuron(
                uid=number,
                hotkey=hotkey(number),
                stake=stakes.get(number, 0),
                validator_permit=True,
            )
            for number in everyone
        )

    def metagraph(self, epoch: int) -> EpochMetagraph:
        return EpochMetagraph(
            epoch=epoch,
            block=epoch * 100,
            block_hash=sha256(b"block", bytes([epoch])),
            owner=None,
            rules=WeightRules(min_allowed_weights=0, max_weight_limit=65535, mechanisms=1),
            neurons=self.neurons(epoch),
        )

    def genesis_state(self) -> DictView:
        chain = ChainParameters(
            netuid=1, start_ms=0, block_time_ms=1, tempo=100, weights_rate_limit=0, min_stake=0
        )
        genesis = Genesis(
            name="simulated",
            engine_id=ZERO_DIGEST,
            owner=hotkey(0),
            chain=chain,
            neurons=self.neurons(0),
            validators=self.validators(0),
            challenges=(),
            parameters=self.parameters,
        )
        view = DictView()
        write_genesis(view, genesis)
        return view

    def bindings(self, view: DictView) -> list[SignedKey]:
        """Return the bindings that the state would take in now."""
        epoch = current_epoch(view)
        told = [(member, held) for member, held, when in self.new_keys if when <= epoch]
        told += [(m, m) for m in range(self.members) if m not in dict.fromkeys(
            number for number, _, _ in self.new_keys)]  # fmt: skip
        found = [
            SignedKey(
                binding=KeyBinding(
                    hotkey=hotkey(held), consensus_key=consensus_key(member), sequence=member
                ),
                signature=UNSIGNED,
                possession=UNSIGNED,
            )
            for member, held in told
        ]
        return [key for key in found if why_not_bound(view, key) is None]


def root_of(state: dict[bytes, bytes]) -> bytes:
    return sha256(*(encode([key, value]) for key, value in sorted(state.items())))


def copied(state: dict[bytes, bytes]) -> DictView:
    view = DictView()
    view.entries = dict(state)
    return view


def executed(
    plan: ElectedPlan, state: dict[bytes, bytes], header: Header, batch: Batch
) -> DictView:
    """Return the state after one more slot."""
    view = copied(state)
    now = electorate(view)
    assert now is not None
    assert now.voters.epoch == header.epoch
    execute(view, Voters(now.voters, NETWORK, after=now.since), plan.parameters, header, batch)
    return view


class StatefulReplica(Replica):
    """A member that executes what it decides."""

    network: StatefulNetwork

    def __init__(self, network: StatefulNetwork, member: int) -> None:
        self.states = [network.plan.genesis_state().entries]
        super().__init__(network, member)

    @property
    def view(self) -> DictView:
        """The state after the last executed slot."""
        del self.states[len(self.chain) + 1 :]  # a crash may have taken slots
        while len(self.states) <= len(self.chain):
            batch, certificate = self.chain[len(self.states) - 1]
            after = executed(self.network.plan, self.states[-1], certificate.header, batch)
            self.states.append(after.entries)
        return copied(self.states[-1])

    def root_after(self, seq: int) -> bytes | None:
        if seq > len(self.chain):
            return None
        assert self.view is not None  # executes what is new
        return root_of(self.states[max(seq, 0)])

    def edge(self) -> Edge | None:
        return edge_at(self.view, len(self.chain)) if self.chain else None

    def new_batch(self, root: bytes) -> Batch:
        """Let every validator say what it has to say, and bring two metagraphs."""
        plan, view = self.network.plan, self.view
        now = electorate(view)
        assert now is not None
        following = plan.metagraph(now.voters.epoch + 1)
        items: list = list(plan.bindings(view))
        over = len(self.chain) >= now.since + plan.epoch_slots
        if over:
            items.append(
                Observation(
                    epoch=following.epoch,
                    block=following.block,
                    block_hash=following.block_hash,
                    snapshot_hash=digest_of(following),
                )
            )
        actions: list[Action] = []
        for signer in range(len(now.voters.members)) if items else ():
            mark = read(view, keys.Mark, keys.MARK + keys.u16(signer))
            header = StatementHeader(
                epoch=now.voters.epoch,
                signer=signer,
                counter=mark.counter + 1 if mark else 1,
                clock_ms=self.network.now,
                items_root=ZERO_DIGEST,
            )
            actions.append(Statement(header=header, items=tuple(items), signature=UNSIGNED))
        if over:
            unseen = plan.metagraph(following.epoch + 5)
            actions += [replace_epoch(unseen, following.epoch), following]
        return Batch(state_root=root, actions=tuple(actions))


def replace_epoch(metagraph: EpochMetagraph, epoch: int) -> EpochMetagraph:
    fields = {name: getattr(metagraph, name) for name in metagraph.__struct_fields__}
    return EpochMetagraph(**{**fields, "epoch": epoch})


class StatefulNetwork(Network):
    """A network of honest members that execute."""

    plan: ElectedPlan

    def __init__(self, plan: ElectedPlan) -> None:
        super().__init__(replace(plan, byzantine=()))
        self.members = [[StatefulReplica(self, member)] for member in range(plan.members)]
        self.everyone = self.honest = [replica for (replica,) in self.members]
        self.checks.edges_by_plan = False
