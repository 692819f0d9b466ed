"""The deterministic sandbox: a WebAssembly module and a submission in, the same bytes everywhere.

`pool` is what the node uses; `sandbox` is the core that runs in each worker process.
"""
