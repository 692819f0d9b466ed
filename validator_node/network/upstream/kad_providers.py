"""Provider records are bounded in total and for each provider.

The stock store bounds the providers of one key, not the keys: each of them stays in memory for 48
hours, and a peer may add one a second. Corrected: at most `MAX_KEYS` keys, the one longest known
makes room; at most `MAX_KEYS_PER_PROVIDER` of one provider, further ones are dropped. Both are
counted.
"""

from typing import Any, Final

from libp2p.kad_dht.provider_store import ProviderStore

from validator_node.network.counters import attached
from validator_node.network.upstream.patching import replace

MAX_KEYS: Final = 4_096
MAX_KEYS_PER_PROVIDER: Final = 1_024


def _bounded(original: Any) -> Any:
    def add_provider(self: ProviderStore, key: bytes, provider: Any) -> None:
        name = str(provider.peer_id)
        if name not in self.providers.get(key, {}):
            held = sum(name in providers for providers in self.providers.values())
            if held >= MAX_KEYS_PER_PROVIDER:
                attached(self.host).count("dropped", "dht_providers")
                return
        while key not in self.providers and len(self.providers) >= MAX_KEYS:
            del self.providers[next(iter(self.providers))]
            attached(self.host).count("dropped", "dht_provider_keys")
        original(self, key, provider)

    return add_provider


def apply() -> None:
    """Bound the provider records."""
    replace(__name__, ProviderStore, "add_provider", _bounded)
