"""One validator node: its parts, put together, in one nursery.

`Node` owns the data (store, journal), the consensus driver and the services, and passes what a
batch brought about to whom it concerns. `run_node` opens everything in order, runs until it is told
to stop, and closes everything in reverse. An error in any service ends the process with that error.
"""

from __future__ import annotations

import json
import signal
import time

import structlog
import trio

from consensus.effects import PersistEpoch
from consensus.engine import Engine
from consensus.validators import Voters
from protocol.codec import digest_of, encode
from protocol.envelope import RecordKind, record_payload
from protocol.identity import verify_consensus
from protocol.records.batch import Header
from protocol.records.genesis import Genesis
from protocol.records.result import Copy, Disputed
from protocol.records.statement import Observation, StatementItem, VerdictItem
from protocol.records.submission import SignedSubmission
from protocol.records.validators import NodeRecord, SignedNodeRecord
from registry import keys as state_keys
from registry.access import read
from registry.epochs import fixed_edge
from registry.submissions import why_inadmissible
from runtime.engine import engine_id
from runtime.pool import WorkerPool, open_pool
from storage.errors import StorageError
from validator_node.batch_check import Checker
from validator_node.config import NodeConfig, load_genesis
from validator_node.consensus_driver import ConsensusDriver
from validator_node.errors import ConfigError, ReplayError
from validator_node.evaluation_service import EvaluationService
from validator_node.execution import Outcome
from validator_node.founding import embedded_chain, load_modules, now_ms
from validator_node.gauges import sources_of
from validator_node.intake import MAX_MESSAGE_BYTES, Intake
from validator_node.journal_bridge import SigningJournal
from validator_node.keys import Keys, load_keystore, passphrase
from validator_node.links import ConsensusLinks
from validator_node.metrics import MetricsServer
from validator_node.network.errors import NetworkError
from validator_node.network.network import Network, NetworkConfig, open_network
from validator_node.outbox import Outbox
from validator_node.peers import Peers
from validator_node.queries import (
    BLOB_PROTOCOL,
    DEADLINE_S,
    MAX_BLOB_REPLY_BYTES,
    QueryService,
)
from validator_node.speaker import Speaker
from validator_node.statements import StatementPool
from validator_node.store import Store
from validator_node.weight_service import WeightService

SUMMARY_FILE = "summary.json"

log = structlog.get_logger(__name__)


class Node:
    """The parts of one node."""

    def __init__(
        self, config: NodeConfig, genesis: Genesis, keys: Keys, pool: WorkerPool, network: Network
    ) -> None:
        self.config = config
        self.genesis = genesis
        self.keys = keys
        self.workers = pool
        self.network = network
        self.store = Store.open(config.state_dir / "db", genesis)
        if self.store.diverged_at is not None:
            raise ReplayError(
                f"{config.state_dir}: the state differed from a quorum's at slot "
                f"{self.store.diverged_at}; this node must not vote with it. Keep the folder for "
                "analysis, and resync with an empty database and the same journal"
            )
        self.journal = SigningJournal(
            config.state_dir / "journal",
            config.state_dir / "journal.marker",
            keys.consensus.public_key,
        )
        engine = self._engine()
        voters = engine.core.voters
        self.me = engine.core.me
        self.checker = Checker(voters, genesis.network_id)
        self.peers = Peers(voters, genesis.network_id)
        known = frozenset(address.rsplit("/p2p/", 1)[-1] for address in config.bootstrap)
        self.links = ConsensusLinks(self.peers, self._node_record(), known)
        self.outbox = Outbox(len(voters), self.me, self.links.send_frame)
        statements = self._statement_pool(voters)
        self.driver = ConsensusDriver(
            engine, self.store, self.journal, self.checker, statements, self.outbox
        )
        self.speaker = self._speaker()
        self._open_services(pool)
        self.settled = self.disputed = self.copies = 0
        self.results_epoch = -1
        self.pending = sum(1 for _ in self.store.tree.items(state_keys.PENDING))
        self.driver.events.executed.append(self._on_executed)
        self.driver.events.epoch_began.append(self._on_epoch)

    def _open_services(self, pool: WorkerPool) -> None:
        config, genesis = self.config, self.genesis
        self.evaluations = EvaluationService(
            self.store,
            pool,
            self.speaker,
            self._fetch_body,
            deadline_ms=config.evaluation_deadline_ms,
        )
        self.intake = Intake(
            self.store,
            self.checker,
            self.speaker,
            me=self.me,
            now=time.monotonic,
            submissions_per_second=config.submissions_per_second,
            max_pending=config.max_pending,
        )
        self.weights = WeightService(
            self.store,
            embedded_chain(genesis, config.chain_dir),
            self.speaker,
            self.keys.hotkey,
            poll_s=genesis.chain.block_time_ms / 2000,
        )
        self.queries = QueryService(self.store, self.intake)

    def _engine(self) -> Engine:
        voters = self._journalled_voters()
        if voters.index_of_key(self.keys.consensus.public_key) is None:
            raise ConfigError(
                f"hotkey {self.keys.hotkey.address}: its consensus key is not in the validator "
                "set; use the keystore that the genesis was made with"
            )
        return Engine(
            voters,
            voters.index_of_key(self.keys.consensus.public_key),
            sign=self.keys.consensus.sign,
            verify=verify_consensus,
            parameters=self.genesis.parameters,
            genesis_digest=self.genesis.network_id,
            executed=self.store.certificate_at(self.store.height),
            stable=self.store.stable(),
            edge=self.store.edge(),
            persisted=self.journal.remembered.persisted,
        )

    def _journalled_voters(self) -> Voters:
        """Return the set to restore from: the one before the newest epoch the journal knows."""
        begun = [r for r in self.journal.remembered.persisted if isinstance(r, PersistEpoch)]
        if begun:
            return self.store.voters_of(begun[-1].certificate.checkpoint.epoch)
        return self.store.voters_of(0)

    def _statement_pool(self, voters: Voters) -> StatementPool:
        pool = StatementPool(len(voters))
        view = self.store.tree.view()
        for signer in range(len(voters)):
            mark = read(view, state_keys.Mark, state_keys.MARK + state_keys.u16(signer))
            if mark is not None:
                pool.mark_executed(signer, mark.counter)
        return pool

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
            clock_ms=now_ms,
            first_counter=max([executed, *said]) + 1,
        )

    def _own_counter(self) -> int:
        return 0 if self.me is None else self.driver.pool.executed(self.me)

    def _node_record(self) -> bytes:
        record = NodeRecord(
            hotkey=self.keys.hotkey.public_key,
            consensus_key=self.keys.consensus.public_key,
            peer_id=self.network.peer_id,
            addresses=self.network.addresses[:16],
            sequence=now_ms(),
        )
        payload = record_payload(RecordKind.NODE_RECORD, self.genesis.network_id, digest_of(record))
        return encode(SignedNodeRecord(record=record, signature=self.keys.hotkey.sign(payload)))

    # --- what a batch brought about ----------------------------------------------------------

    def _on_executed(self, header: Header, outcome: Outcome) -> None:
        for admitted in outcome.admitted:
            self.intake.on_admitted(admitted.submission_id)
            self.evaluations.add(admitted)
            self.pending += 1
        for result in outcome.results:
            self.intake.on_admitted(result.submission_id)
            self.speaker.drop("verdict", result.submission_id)
            if isinstance(result.basis, Copy):
                self.copies += 1  # never pending
                continue
            self.pending -= 1
            if isinstance(result.basis, Disputed):
                self.disputed += 1
            else:
                self.settled += 1
                self.results_epoch = max(self.results_epoch, result.epoch)
        for weights in outcome.weights:
            log.info("epoch closed", epoch=weights.epoch, seq=header.seq)
            self.weights.on_closed(weights, header.seq)
        self.queries.view = self.driver.engine.view
        self.speaker.wake()

    def _on_epoch(self, voters: Voters, me: int | None) -> None:
        self.me = me
        self.peers.begin_epoch(voters)
        self.speaker.begin_epoch(voters, me)
        self.intake.begin_epoch(me)
        log.info("epoch began", epoch=voters.epoch, validator=me)

    def _is_settled(self, item: StatementItem) -> bool:
        """Return whether the state has overtaken something that was about to be said."""
        view = self.store.tree.view()
        if isinstance(item, SignedSubmission):
            return why_inadmissible(view, item.submission) is not None
        if isinstance(item, VerdictItem):
            return self.store.result(item.submission_id) is not None
        if item.epoch != self.store.epoch + 1 or fixed_edge(view) is not None or self.me is None:
            return True
        return read(view, Observation, state_keys.OBSERVED + state_keys.u16(self.me)) == item

    async def _fetch_body(self, body_hash: bytes) -> bytes | None:
        for index in range(len(self.store.voters)):
            peer_id = self.peers.peer_id(index)
            if index == self.me or peer_id is None:
                continue
            try:
                body = await self.network.request(
                    peer_id,
                    BLOB_PROTOCOL,
                    body_hash,
                    deadline_s=DEADLINE_S,
                    max_reply_bytes=MAX_BLOB_REPLY_BYTES,
                )
                if body:
                    self.store.put_body(body_hash, body)
                    return body
            except (NetworkError, StorageError) as error:
                log.info("body not fetched", validator=index, reason=str(error))
        return None

    # --- running -----------------------------------------------------------------------------

    async def _take_submissions(self, topic: str) -> None:
        messages = await self.network.join(
            topic,
            lambda peer_id, data: self.intake.check(topic, data, peer_id),
            max_bytes=MAX_MESSAGE_BYTES,
        )
        async for _ in messages:
            pass  # the topic validator has taken it in; reading keeps the queue empty

    async def run(self) -> None:
        """Run every service until cancelled."""
        self.weights.resume()
        resumed = self.evaluations.resume(self.keys.hotkey.public_key)
        log.info("node starts", height=self.store.height, validator=self.me, resumed=resumed)
        self.queries.serve(self.network)
        self.links.open(self.network, self.driver)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.driver.run)
            nursery.start_soon(self.links.run)
            nursery.start_soon(self.speaker.run)
            nursery.start_soon(self.intake.run)
            nursery.start_soon(self.evaluations.run, 2 * self.config.workers)
            nursery.start_soon(self.weights.run)
            for topic in self.intake.topics():
                nursery.start_soon(self._take_submissions, topic)

    def close(self) -> None:
        """Write the summary and close the files."""
        summary = {
            "peer_id": self.network.peer_id,
            "height": self.store.height,
            "decision_ms": list(self.driver.latencies.decision_ms),
        }
        (self.config.state_dir / SUMMARY_FILE).write_text(json.dumps(summary))
        self.store.flush()
        self.journal.close()
        self.store.close()


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            scope.cancel()


async def run_node(config: NodeConfig) -> None:
    """Run a node until SIGINT or SIGTERM. Raises `NodeError` for what its operator can mend."""
    genesis = load_genesis(config.genesis)
    if genesis.engine_id != engine_id():
        raise ConfigError(
            f"the network runs evaluation engine {genesis.engine_id.hex()[:16]}, this build has "
            f"{engine_id().hex()[:16]}: install the release that the network has agreed on"
        )
    keys = load_keystore(config.keystore, passphrase(config.passphrase_file))
    modules = load_modules(genesis)
    config.state_dir.mkdir(parents=True, exist_ok=True)
    network_config = NetworkConfig(
        seed=keys.libp2p_seed,
        listen_host=config.listen_host,
        listen_port=config.listen_port,
        bootstrap=config.bootstrap,
    )
    node: Node | None = None
    try:
        async with (
            trio.open_nursery() as nursery,
            open_pool(
                config.workers, module_source=modules.get, expected_engine_id=genesis.engine_id
            ) as pool,
            open_network(network_config) as network,
        ):
            nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
            node = Node(config, genesis, keys, pool, network)
            with MetricsServer(config.metrics_host, config.metrics_port, sources_of(node)):
                await node.run()
    finally:
        if node is not None:  # last: whoever still asks over the network needs the store
            node.close()
