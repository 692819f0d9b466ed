"""State sync: how a node that is new, or was long away, comes to the others' height.

| module | what |
|---|---|
| `records` | what is asked and answered |
| `serving` | answers from this node's store, to anybody |
| `snapshots` | writes a snapshot when a checkpoint has become stable |
| `trust` | which offers prove themselves, and which one to take (pure) |
| `download` | loads and installs a snapshot from several peers |
| `follower` | watches the others' height, and decides: links, log, or snapshot |

A node asks nobody to be honest. Sets are proven from the genesis, or from the checkpoint that its
operator trusts; a snapshot must hash to the root that a quorum certified; a slot of the log carries
its own certificate.
"""
