"""One validator node: its parts, put together, in one nursery.

`Node` owns the data (store, journal), the consensus driver and the services, and passes what a
batch brought about to whom it concerns. An error in any service ends the process with that error.

A node whose key is in the validator set, and whose journal is there, is a *validator*. Any other is
an *observer*: it follows, serves and forwards, and says nothing.
"""

from __future__ import annotations

import json
import time

import structlog
import trio

from consensus.validators import Voters
from protocol.codec import encode
from protocol.identity import verify_consensus
from protocol.records.batch import Header
from protocol.records.genesis import Genesis
from protocol.records.metagraph import EpochMetagraph
from protocol.records.statement import StatementItem
from registry import keys as state_keys
from runtime.pool import WorkerPool
from storage.audit_log import AuditLog
from storage.errors import StorageError
from validator_node.batch_check import Checker
from validator_node.blobs import BlobFetcher, BlobService, over
from validator_node.canary import CanaryService, log_decision
from validator_node.chain_access import ChainAccess
from validator_node.config import NodeConfig
from validator_node.consensus_driver import ConsensusDriver
from validator_node.discovery.assembly import make_discovery
from validator_node.evaluation_service import EvaluationService
from validator_node.execution import Outcome
from validator_node.founding import now_ms
from validator_node.intake_assembly import make_intake
from validator_node.key_relay import KeyRelay
from validator_node.keys import Keys
from validator_node.links import ConsensusLinks
from validator_node.module_fetcher import ModuleFetcher
from validator_node.modules import Modules
from validator_node.network.network import Network
from validator_node.outbox import Outbox
from validator_node.overtaken import is_overtaken
from validator_node.owner.gossip import RegistryGossip
from validator_node.owner.queries import RegistryQueries
from validator_node.peers import Peers
from validator_node.queries import QueryService
from validator_node.records.assembly import RecordParts
from validator_node.replica import RelearningJournal, open_replica, statement_pool
from validator_node.speaker import Speaker
from validator_node.submission_book import SubmissionBook
from validator_node.sync.download import Downloader
from validator_node.sync.follower import Follower
from validator_node.sync.serving import SyncServer
from validator_node.sync.snapshots import SnapshotKeeper
from validator_node.sync.trust import known_sets
from validator_node.tally import Tally
from validator_node.topics import SubmissionTopics
from validator_node.weight_service import WeightService

SUMMARY_FILE = "summary.json"
SAMPLE_S = 1.0
BLOB_LIE_COST = 50.0
"""A quarter of a ban: each lie costs us up to 16 MiB."""

log = structlog.get_logger(__name__)


class Node:
    """The parts of one node."""

    def __init__(
        self,
        config: NodeConfig,
        genesis: Genesis,
        keys: Keys,
        pool: WorkerPool,
        network: Network,
        modules: Modules,
        records: RecordParts,
        chain: ChainAccess,
    ) -> None:
        """Open the data and make the services."""
        self.records = records
        self.config = config
        self.genesis = genesis
        self.keys = keys
        self.workers = pool
        self.network = network
        self.store, self.journal, engine, self.why_observing = open_replica(
            config, genesis, keys.consensus
        )
        voters = engine.core.voters
        self.me = engine.core.me
        self.checker = Checker(voters, genesis.network_id)
        self.peers = Peers(voters, genesis.network_id)
        self.discovery = make_discovery(config, genesis, keys, network, self.store, voters)
        self.links = ConsensusLinks(
            self.peers,
            encode(self.discovery.record),
            self.discovery.expected,
            is_member=lambda: self.is_linked,
        )
        self.discovery.changed.append(self.links.reconsider)
        self.outbox = Outbox(len(voters), self.me, self.links.send_frame)
        statements = statement_pool(self.store, voters)
        self.driver = ConsensusDriver(
            engine, self.store, self.journal, self.checker, statements, self.outbox
        )
        self.speaker = self._speaker()
        self._open_services(pool, modules, chain)
        self.tasks_living = self.banned = 0
        self.sampled_s = time.monotonic()
        self.worked = pool.stats()
        self.tally = Tally(sum(1 for _ in self.store.tree.items(state_keys.PENDING)))
        self.driver.events.executed.append(self._on_executed)
        if isinstance(self.journal, RelearningJournal):
            self.driver.events.epoch_began.append(self.journal.on_epoch)
        self.driver.events.epoch_began.append(self._on_epoch)
        self.driver.events.stable += [self.snapshots.on_stable, self.record_service.on_stable]
        self.driver.events.evidence.append(self.record_service.on_evidence)

    def _open_services(self, pool: WorkerPool, modules: Modules, chain: ChainAccess) -> None:
        config, genesis, network = self.config, self.genesis, self.network
        self.audit = AuditLog(self.store.database, config.audit_dir)
        self.fetcher = BlobFetcher(over(network), on_lie=self._on_blob_lie)
        changes = self.driver.batching.changes
        self.registry = RegistryGossip(network, self.store, changes, self.driver.tell_work)
        self.module_fetcher = ModuleFetcher(
            self.fetcher, lambda: [*self._validators(), *self.registry.holders()]
        )
        deadline_ms = config.evaluation_deadline_ms
        self.canary = CanaryService(
            pool, modules, self.module_fetcher.fetch, say=self.speaker.add, deadline_ms=deadline_ms
        )
        self.intake = make_intake(
            config,
            self.store,
            self.checker,
            self.speaker,
            self.driver,
            self.fetcher,
            network,
            validators=self._validators,
            pending=lambda: self.tally.pending,
        )
        assert self.intake.awaited is not None, "it has a fetcher"
        self.evaluations = EvaluationService(
            self.store, pool, self.speaker, self.intake.awaited, self.audit, deadline_ms=deadline_ms
        )
        self.topics = SubmissionTopics(network, self.intake)
        self.weights = WeightService(
            self.store,
            chain,
            self.speaker,
            self.keys.hotkey,
            self._offer_metagraph,
            SubmissionBook.open(
                config.state_dir / "submissions",
                network_id=genesis.network_id,
                hotkey=self.keys.hotkey.public_key,
            ),
            on_no_weights=config.on_no_weights,
        )
        self.key_relay = KeyRelay(self.store, self.discovery.book, self.speaker)
        self.queries = QueryService(self.store, self.intake)
        self._open_sync(modules)

    def _open_sync(self, modules: Modules) -> None:
        config, genesis, network = self.config, self.genesis, self.network
        self.snapshots = SnapshotKeeper(
            self.store, config.state_dir, every=config.snapshot_every_slots
        )
        self.registry_queries = RegistryQueries(self.store, self.driver.batching.changes)
        self.sync_server = SyncServer(self.store, self.snapshots.offers)
        self.blobs = BlobService(
            [self.store.body, self.snapshots.blob, modules.get],
            is_trusted=lambda peer_id: self.peers.index(peer_id) is not None,
        )
        handovers = self.store.edge_checkpoints()
        sets = known_sets(genesis, handovers, verify_consensus, config.trusted_checkpoint)
        self.records.attach(self.store, sets, self._validators)
        self.record_service = self.records.service(
            network, lambda: self.discovery.record, lambda: self.me
        )
        self.follower = Follower(
            self.store,
            self.driver,
            network,
            Downloader(config.state_dir, genesis, self.fetcher),
            sets,
            verify_consensus,
            is_linked=lambda: self.is_linked,
            full_log=config.full_log,
            newest=lambda: self.records.newest_checkpoint(network),
        )

    def _on_blob_lie(self, peer_id: str) -> None:
        self.network.charge(peer_id, "blob_lie", BLOB_LIE_COST)

    def _speaker(self) -> Speaker:
        voters = self.driver.engine.core.voters
        remembered = self.journal.remembered.statements
        said = [s.header.counter for s in remembered if s.header.epoch == voters.epoch]
        executed = self._own_counter()
        return Speaker(
            voters,
            self.me,
            self.keys.consensus,
            say=self.driver.say,
            executed_counter=self._own_counter,
            is_settled=self._is_settled,
            clock_ms=self._clock_ms,
            first_counter=max([executed, *said]) + 1,
            said=remembered,
        )

    def _clock_ms(self) -> int:
        return now_ms() + self.config.clock_offset_ms

    @property
    def is_linked(self) -> bool:
        """Whether this node's key is in the validator set, so that it has consensus links."""
        voters = self.driver.engine.core.voters
        return voters.index_of_key(self.keys.consensus.public_key) is not None

    def _own_counter(self) -> int:
        return 0 if self.me is None else self.driver.pool.executed(self.me)

    def _offer_metagraph(self, metagraph: EpochMetagraph) -> None:
        if self.driver.batching.metagraph != metagraph:
            self.driver.batching.metagraph = metagraph
            self.driver.tell_work()

    # --- what a batch brought about ----------------------------------------------------------

    def _on_executed(self, header: Header, outcome: Outcome) -> None:
        self.tally.on_executed(len(outcome.admitted), outcome.results)
        for admitted in outcome.admitted:
            if self.me is not None:  # before the intake lets go of it: it may lack its body
                self.evaluations.add(admitted)
        ended = [result.submission_id for result in outcome.results]
        self.intake.on_executed((one.submission_id for one in outcome.admitted), ended)
        for submission_id in ended:
            self.evaluations.on_ended(submission_id)
            self.speaker.drop("verdict", submission_id)
        for decided in outcome.decided:
            log_decision(decided)
        if outcome.catalogue_changed or outcome.decided:
            self.canary.look(self.store.tree.view(), self.me)
            self.topics.reconsider()
        self.registry.on_executed()
        for weights in outcome.weights:
            log.info("epoch closed", epoch=weights.epoch, seq=header.seq)
            self.weights.on_closed(weights, header.seq)
        self.queries.view = self.driver.engine.view
        self.snapshots.on_executed(header.seq)
        self.speaker.wake()

    def _on_epoch(self, voters: Voters, me: int | None) -> None:
        if self.me is None and me is not None:
            self.evaluations.resume(self.keys.hotkey.public_key)
        self.me = me
        self.why_observing = self.why_observing if me is None else ""
        self.canary.look(self.store.tree.view(), self.me)
        self.peers.begin_epoch(voters)
        self.discovery.begin_epoch(voters)
        self.records.book.forget()
        self.links.reconsider()
        self.speaker.begin_epoch(voters, me)
        self.intake.admissions.begin_epoch(me)
        log.info("epoch began", epoch=voters.epoch, validator=me)

    def _is_settled(self, item: StatementItem) -> bool:
        return is_overtaken(self.store.tree.view(), item, self.me, self.driver.pool.asks_for)

    def _validators(self) -> list[str]:
        """Return the peer ids of the other validators that have introduced themselves."""
        others = (self.peers.peer_id(i) for i in range(len(self.store.voters)) if i != self.me)
        return [peer_id for peer_id in others if peer_id is not None]

    # --- running -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Run every service until cancelled."""
        self.weights.resume()
        self.canary.look(self.store.tree.view(), self.me)
        resumed = 0
        if self.me is not None:
            resumed = self.evaluations.resume(self.keys.hotkey.public_key)
        log.info("node starts", height=self.store.height, validator=self.me, resumed=resumed)
        if self.why_observing and self.is_linked:
            log.error("this validator only observes", reason=self.why_observing)
        for server in (self.queries, self.registry_queries, self.blobs, self.sync_server):
            server.serve(self.network)
        # It may take half a minute on a busy machine: who asks how we are is answered before.
        await self.canary.check_active(self.genesis.challenges)
        self.links.open(self.network, self.driver)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.driver.run)
            nursery.start_soon(self.links.run)
            nursery.start_soon(self.discovery.run)
            nursery.start_soon(self.record_service.run)
            nursery.start_soon(self.speaker.run)
            nursery.start_soon(self.intake.run)
            nursery.start_soon(self.evaluations.run)
            nursery.start_soon(self.canary.run)
            nursery.start_soon(self.module_fetcher.run)
            nursery.start_soon(self._sample)
            nursery.start_soon(self.snapshots.run)
            nursery.start_soon(self.follower.run)
            nursery.start_soon(self.weights.run)
            nursery.start_soon(self.key_relay.run)
            nursery.start_soon(self.topics.run)
            nursery.start_soon(self.registry.run)

    async def _sample(self) -> None:
        while True:  # metrics are read in another thread, which cannot ask trio
            self.tasks_living = trio.lowlevel.current_statistics().tasks_living
            self.banned = len(self.network.bans())
            self.sampled_s = time.monotonic()
            self.worked = self.workers.stats()
            await trio.sleep(SAMPLE_S)

    def close(self) -> None:
        """Write the summary and close the files."""
        summary = {
            "peer_id": self.network.peer_id,
            "height": self.store.height,
            "decision_ms": list(self.driver.latencies.decision_ms),
        }
        try:
            (self.config.state_dir / SUMMARY_FILE).write_text(json.dumps(summary))
            self.audit.flush()
            self.store.flush()
        except (OSError, StorageError) as error:  # a full disk: what it stopped for says more
            log.error("not everything was written", reason=str(error))  # noqa: TRY400
        self.journal.close()
        self.records.detach()
        self.store.close()
