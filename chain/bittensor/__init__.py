"""The live chain through the Bittensor SDK. Only this package imports it, and late.

From the inside out, each file using only those before it:

| file | what it is |
|---|---|
| `errors.py` | what the SDK and the chain say, as this node's codes |
| `reads.py` | what is read of a subnet, at the hash of one finalised block |
| `writes.py` | the weights call: composed, signed by the node's signer, submitted |
| `settings.py` | deadlines, patience, and what the connection shows of itself |
| `endpoints.py` | which endpoint is next |
| `thread.py` | the daemon thread in which the SDK of one connection lives |
| `connection.py` | one connection |
| `keeper.py` | makes, watches and leaves connections |
| `adapter.py` | the `Chain`, and the block that opens and closes it |

The judgement when a connection, an endpoint or the process is given up is `chain.watchdog`.
"""

from chain.bittensor.adapter import BittensorChain, SdkMissingError, open_bittensor
from chain.bittensor.settings import ChainStatus, Deadlines, Settings

__all__ = [
    "BittensorChain",
    "ChainStatus",
    "Deadlines",
    "SdkMissingError",
    "Settings",
    "open_bittensor",
]
