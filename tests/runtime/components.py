"""Small components as WAT text: each function is given its core body and the text it returns."""

from __future__ import annotations

import functools

import wasmtime

from tests.runtime.modules import output
from tests.runtime.modules import text as escaped

RETURN_AT = 16
TEXT_AT = 4_096
SINGLE = ("evaluate",)
CONTEST = ("questions", "load", "answer", "score")
QUESTIONS = b'{"fuel":100000,"questions":["first","second"]}'


@functools.cache
def assembled(wat: str) -> bytes:
    return bytes(wasmtime.wat2wasm(wat))


def as_text(data: bytes) -> bytes:
    return data.decode("latin-1").encode()


def function(name: str, params: int, body: str, number: int) -> tuple[str, str]:
    """Return the core function and its lifting."""
    core = f"""(func (export "{name}") (param {"i32 " * (2 * params)}) (result i32)
        {body} (i32.const {RETURN_AT + 8 * number}))"""
    given = " ".join(f'(param "p{n}" string)' for n in range(params))
    lifted = f"""(func ${name} {given} (result string) (canon lift
        (core func $i "{name}") (memory $memory) (realloc (core func $i "realloc"))))
        (export "{name}" (func ${name}))"""
    return core, lifted


def component(
    bodies: dict[str, str] | None = None,
    texts: dict[str, bytes] | None = None,
    *,
    names: tuple[str, ...] = SINGLE,
    pages: int = 2,
    more_core: str = "",
    more: str = "",
) -> bytes:
    """A component whose functions run `bodies` and return `texts`; by default a good output."""
    bodies, texts = bodies or {}, texts or {}
    data, cores, lifted = [], [], []
    at = TEXT_AT
    for number, name in enumerate(names):
        good = QUESTIONS if name == "questions" else as_text(output())
        said = texts.get(name, good)
        pair = at.to_bytes(4, "little") + len(said).to_bytes(4, "little")
        data.append(f'(data (i32.const {RETURN_AT + 8 * number}) "{escaped(pair)}")')
        data.append(f'(data (i32.const {at}) "{escaped(said)}")')
        at += len(said)
        params = 2 if name == "score" else 1
        core, lift = function(name, params, bodies.get(name, ""), number)
        cores.append(core)
        lifted.append(lift)
    return assembled(
        f"""(component (core module $m (memory (export "memory") {pages}) {" ".join(data)}
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
        {" ".join(cores)} {more_core})
        (core instance $i (instantiate $m))
        (alias core export $i "memory" (core memory $memory))
        {" ".join(lifted)} {more})"""
    )
