"""A development chain: substrate JSON-RPC with subtensor's real metadata, in one Python process.

The unmodified Bittensor SDK talks to it as to a live endpoint: it reads the metagraph, sets
weights plainly or by commit-reveal, and reads them back. One subnet, no money, no consensus.

From the inside out, each file using only those before it:

| file | what it is |
|---|---|
| `errors.py` | how the chain says no |
| `scale.py` | the few SCALE words that are read or hashed by hand |
| `metadata.py` | the runtime metadata and the codec made from it |
| `state.py` | the state after a block, as frozen records |
| `changes.py` | changes of the subnet that are no calls: stake, permits, registrations |
| `epochs.py` | when an epoch runs, and which one a block belongs to |
| `commits.py` | commit-reveal: what is hidden, when and how it is applied |
| `calls.py` | the weight calls: what the pool refuses, what the chain refuses, what changes |
| `extrinsics.py` | signed extrinsics: parsing, mortality, signature |
| `storage.py` | the state as storage keys and values |
| `runtime_calls.py` | the answers of the runtime's own interfaces |
| `knobs.py` | what can be made to go wrong |
| `pool.py`, `ledger.py` | waiting extrinsics, and the chain of blocks |
| `admin.py` | the `dev_*` methods: faults, and changes of the subnet |
| `rpc.py` | JSON-RPC methods as functions of the ledger |
| `config.py`, `saving.py` | what people write, and what a restart goes on from |
| `valve.py` | sockets that can be made half-open |
| `session.py`, `server.py` | the trio shell: connections, subscriptions, the block clock |

Everything but `saving.py`, `valve.py`, `session.py` and `server.py` is free of I/O and of clocks.

What differs from the live chain: permits are given by hand and not at epochs, there is no emission
and no fee, batches of weight calls and calls nested in others are refused as `CallFiltered`, and
only drand rounds that were given to it are known. The SDK seals its commits for a future round, so
without that round's signature (`dev_pulse`) they are included and never revealed.
"""
