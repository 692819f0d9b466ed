"""State sync: how a node that is new, or was long away, comes to the others' height.

| module | what |
|---|---|
| `records` | what is asked and answered |
| `serving` | answers from this node's store, to anybody |
| `snapshots` | writes a snapshot when a checkpoint has become stable |
| `trust` | which sets are proven, what is proven by them, what to do when behind (pure) |
| `sources` | whom to ask first, how long to wait, when to leave a peer alone (pure) |
| `asking`, `sets` | asking one peer, and proving the sets of later epochs by the answers |
| `claims` | what peers claim, and how much of it counts |
| `ranges`, `log_reader` | which part of the log is asked of whom (pure), and reading it |
| `candidates` | which offered snapshots to try, in which order (pure) |
| `loading`, `download` | trying one after the other; loading one and making a database of it |
| `follower` | watches the others' height, and decides: links, log, or snapshot |

A node asks nobody to be honest. Sets are proven from the genesis, or from the checkpoint that its
operator trusts; a snapshot must hash to the root that a quorum certified; a slot of the log carries
its own certificate.
"""
