"""Runs a guest module directly under wasmtime, with fuel on: the ABI and nothing else.

The product's sandbox lives in ``runtime/``; this one is small on purpose, so that a module's test
does not depend on it.
"""

import hashlib
from dataclasses import dataclass

import msgpack
import wasmtime

from challenges.examples import Example

FUEL = 20_000_000


@dataclass(frozen=True)
class Result:
    raw: bytes
    fuel: int
    logs: tuple[bytes, ...] = ()

    @property
    def output(self):
        return msgpack.unpackb(self.raw, strict_map_key=True)


class Guest:
    """One compiled module; every `run` is a fresh instance."""

    def __init__(self, module: bytes, fuel: int = FUEL, time_ms: int = 0):
        config = wasmtime.Config()
        config.consume_fuel = True
        self.engine = wasmtime.Engine(config)
        self.module = wasmtime.Module(self.engine, module)
        self.fuel = fuel
        self.time_ms = time_ms

    def run(self, data: bytes) -> Result:
        store = wasmtime.Store(self.engine)
        store.set_fuel(self.fuel)
        store.set_limits(memory_size=4 * 65536)
        logs: list[bytes] = []
        exports = self._linker(logs).instantiate(store, self.module).exports(store)
        memory = exports["memory"]
        pointer = exports["alloc"](store, len(data)) & 0xFFFFFFFF
        memory.write(store, data, pointer)
        packed = exports["evaluate"](store, pointer, len(data)) & (2**64 - 1)
        start, size = packed & 0xFFFFFFFF, packed >> 32
        assert start + size <= memory.data_len(store)
        raw = bytes(memory.read(store, start, start + size))
        return Result(raw, self.fuel - store.get_fuel(), tuple(logs))

    def _linker(self, logs: list[bytes]) -> wasmtime.Linker:
        i32, i64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()

        def log(caller, pointer, size):
            logs.append(bytes(caller["memory"].read(caller, pointer, pointer + size)))

        def random(caller, pointer, size):
            caller["memory"].write(caller, bytes(range(size)), pointer)

        def sha256(caller, pointer, size, out):
            data = bytes(caller["memory"].read(caller, pointer, pointer + size))
            caller["memory"].write(caller, hashlib.sha256(data).digest(), out)

        linker = wasmtime.Linker(self.engine)
        functions = (
            ("log", log, [i32, i32], []),
            ("random", random, [i32, i32], []),
            ("sha256", sha256, [i32, i32, i32], []),
        )
        for name, function, takes, gives in functions:
            kind = wasmtime.FuncType(takes, gives)
            linker.define_func("platform", name, kind, function, access_caller=True)
        linker.define_func(
            "platform", "time_ms", wasmtime.FuncType([], [i64]), lambda: self.time_ms
        )
        return linker


_guests: dict[bytes, Guest] = {}


def guest(example: Example) -> Guest:
    """The example's module, compiled once a test run."""
    if example.module_hash not in _guests:
        _guests[example.module_hash] = Guest(example.module, example.spec.policy.fuel)
    return _guests[example.module_hash]


def check_output(raw: bytes) -> dict:
    """The output map, after checking that it has the contract's form to the byte."""
    output = msgpack.unpackb(raw, strict_map_key=True)
    assert list(output) == ["score", "valid", "message", "metrics"]
    assert type(output["score"]) is int
    assert 0 <= output["score"] <= 1_000_000
    assert type(output["valid"]) is bool
    assert type(output["message"]) is str
    assert all(type(k) is str and type(v) is int for k, v in output["metrics"].items())
    assert output["valid"] or (output["score"] == 0 and output["message"])
    assert msgpack.packb(output) == raw, "not the shortest encoding"
    return output
