// The guest side of the core-wasm ABI (docs/challenges.md) for AssemblyScript.
//
// A challenge's `challenge.ts` imports what it needs from "./platform", re-exports `abi_version` and
// `alloc`, and defines `export function evaluate(ptr: u32, len: u32): i64`.
//
// Rules this helper keeps, so that a challenge need not:
//  - nothing here traps: every read is bounded, and the first error is kept in `Input.error`;
//  - nothing here uses floating point; a host function is imported only if it is called;
//  - the output is canonical MessagePack; the score is clamped, metrics are sorted by name.

// @ts-ignore: decorator
@external("platform", "log") declare function hostLog(ptr: usize, len: u32): void;
// @ts-ignore: decorator
@external("platform", "time_ms") declare function hostTimeMs(): i64;
// @ts-ignore: decorator
@external("platform", "random") declare function hostRandom(ptr: usize, len: u32): void;
// @ts-ignore: decorator
@external("platform", "sha256") declare function hostSha256(ptr: usize, len: u32, out: usize): void;
// @ts-ignore: decorator
@external("platform", "data_get") declare function hostDataGet(key: usize, len: u32, out: usize, capacity: u32): i32;
// @ts-ignore: decorator
@external("platform", "storage_get") declare function hostStorageGet(key: usize, len: u32, out: usize, capacity: u32): i32;
// @ts-ignore: decorator
@external("platform", "storage_put") declare function hostStoragePut(key: usize, len: u32, value: usize, size: u32): void;

export const MAX_SCORE: i64 = 1000000;
const MAX_METRICS = 64;
const MAX_MESSAGE_UNITS = 200;

/** What the compiler calls where it would throw: a trap, the outcome class of the same name. */
export function abort(_message: usize, _file: usize, _line: u32, _column: u32): void {
  unreachable();
}

export function abi_version(): i32 {
  return 1;
}

/** The address of `size` fresh bytes; 0 when the memory cannot hold them. Nothing is ever freed. */
export function alloc(size: i32): i32 {
  if (size < 0) return 0;
  const top = heap.alloc(0) + <usize>size + 32; // 32: the block's header and its alignment
  const pages = <i32>((top + 0xffff) >>> 16) - memory.size();
  if (pages > 0 && memory.grow(pages) < 0) return 0;
  return <i32>heap.alloc(size);
}

// ---- Host functions ----

/** The data blob of that name (a file of data/blobs), or null. */
export function dataGet(key: string): Uint8Array | null {
  const name = String.UTF8.encode(key);
  const size = hostDataGet(changetype<usize>(name), name.byteLength, 0, 0);
  if (size < 0) return null;
  const value = new Uint8Array(size);
  hostDataGet(changetype<usize>(name), name.byteLength, value.dataStart, size);
  return value;
}

/** What the challenge's storage held under the key when the submission was admitted, or null. */
export function storageGet(key: Uint8Array): Uint8Array | null {
  const size = hostStorageGet(key.dataStart, key.length, 0, 0);
  if (size < 0) return null;
  const value = new Uint8Array(size);
  hostStorageGet(key.dataStart, key.length, value.dataStart, size);
  return value;
}

/** Stores a value once the submission's result is settled; an empty one removes the key. */
export function storagePut(key: Uint8Array, value: Uint8Array): void {
  hostStoragePut(key.dataStart, key.length, value.dataStart, value.length);
}

/** Writes one line to the evaluation's log; it never reaches the verdict. */
export function log(line: string): void {
  const bytes = String.UTF8.encode(line);
  hostLog(changetype<usize>(bytes), bytes.byteLength);
}

/** The network's time at admission, in milliseconds. */
export function timeMs(): i64 {
  return hostTimeMs();
}

/** Bytes of the evaluation's own random stream, the same on every validator. */
export function random(size: i32): Uint8Array {
  const bytes = new Uint8Array(size);
  hostRandom(bytes.dataStart, size);
  return bytes;
}

export function sha256(data: Uint8Array): Uint8Array {
  const digest = new Uint8Array(32);
  hostSha256(data.dataStart, data.length, digest.dataStart);
  return digest;
}

// ---- Reading MessagePack ----

/** Bytes inside the input. */
class View {
  constructor(public start: u32, public end: u32) {}

  bytes(): Uint8Array {
    const copy = new Uint8Array(this.end - this.start);
    memory.copy(copy.dataStart, this.start, this.end - this.start);
    return copy;
  }

  text(): string {
    return String.UTF8.decodeUnsafe(this.start, this.end - this.start);
  }
}

/** The input of `evaluate`. The first error sticks; every later read returns zero or nothing. */
export class Input {
  submission: Uint8Array = new Uint8Array(0);
  miner: Uint8Array = new Uint8Array(0);
  seed: Uint8Array = new Uint8Array(0);
  challengeId: string = "";
  challengeVersion: i64 = 0;
  epoch: i64 = 0;
  height: i64 = 0;
  timeMs: i64 = 0;
  error: string | null = null;
  private params: View = new View(0, 0);
  private at: u32;

  constructor(private start: u32, private end: u32) {
    this.at = start;
  }

  /** The challenge parameter `name`, within lowest..highest; else an error is kept. */
  param(name: string, lowest: i64, highest: i64): i64 {
    this.at = this.params.start;
    let value: i64 = lowest;
    let found = false;
    for (let pairs = this.mapSize(); pairs && !this.error; pairs--) {
      const key = this.str().text();
      if (key == name) {
        value = this.int();
        found = true;
      } else this.skip();
    }
    if (!found) this.fail("this parameter is missing: " + name);
    else if (value < lowest || value > highest) this.fail("this parameter is out of range: " + name);
    return this.error ? lowest : value;
  }

  /** Refuses with the error that is kept. */
  refuse(): i64 {
    const why = this.error;
    return refuse("input byte " + (this.at - this.start).toString() + ": " + (why ? why : "no error"));
  }

  read(): void {
    let seen = 0;
    for (let pairs = this.mapSize(); pairs && !this.error; pairs--) {
      const key = this.str().text();
      if (key == "submission") { this.submission = this.bin().bytes(); seen |= 1; }
      else if (key == "miner") { this.miner = this.bin().bytes(); seen |= 2; }
      else if (key == "challenge") { this.readChallenge(); seen |= 4; }
      else if (key == "context") { this.readContext(); seen |= 8; }
      else this.skip();
    }
    if (seen != 15) this.fail("the map lacks a field");
    if (this.miner.length != 32 || this.seed.length != 32) this.fail("32 bytes were expected");
    if (this.at < this.end) this.fail("bytes follow the input map");
  }

  private readChallenge(): void {
    for (let pairs = this.mapSize(); pairs && !this.error; pairs--) {
      const key = this.str().text();
      if (key == "id") this.challengeId = this.str().text();
      else if (key == "version") this.challengeVersion = this.int();
      else if (key == "params") this.params = this.skip();
      else this.skip();
    }
  }

  private readContext(): void {
    for (let pairs = this.mapSize(); pairs && !this.error; pairs--) {
      const key = this.str().text();
      if (key == "epoch") this.epoch = this.int();
      else if (key == "height") this.height = this.int();
      else if (key == "time_ms") this.timeMs = this.int();
      else if (key == "seed") this.seed = this.bin().bytes();
      else this.skip();
    }
  }

  fail(why: string): void {
    if (!this.error) this.error = why;
  }

  /** A big-endian number of `width` bytes. */
  private number(width: u32): u64 {
    if (this.error) return 0;
    if (this.end - this.at < width) {
      this.fail("the input ends inside a value");
      return 0;
    }
    let value: u64 = 0;
    for (; width; width--) value = (value << 8) | load<u8>(this.at++);
    return value;
  }

  private take(size: u64): View {
    if (this.error) return new View(this.at, this.at);
    if (size > <u64>(this.end - this.at)) {
      this.fail("the input ends inside a value");
      return new View(this.at, this.at);
    }
    const from = this.at;
    this.at += <u32>size;
    return new View(from, this.at);
  }

  private mapSize(): u64 {
    const tag = <u32>this.number(1);
    if ((tag & 0xf0) == 0x80) return tag & 0x0f;
    if (tag == 0xde) return this.number(2);
    if (tag == 0xdf) return this.number(4);
    this.fail("a map was expected");
    return 0;
  }

  private str(): View {
    const tag = <u32>this.number(1);
    if ((tag & 0xe0) == 0xa0) return this.take(tag & 0x1f);
    if (tag >= 0xd9 && tag <= 0xdb) return this.take(this.number(1 << (tag - 0xd9)));
    this.fail("a string was expected");
    return this.take(0);
  }

  private bin(): View {
    const tag = <u32>this.number(1);
    if (tag >= 0xc4 && tag <= 0xc6) return this.take(this.number(1 << (tag - 0xc4)));
    this.fail("binary data was expected");
    return this.take(0);
  }

  private int(): i64 {
    const tag = <u32>this.number(1);
    if (tag < 0x80 || tag >= 0xe0) return <i64>(<i8>tag);
    if (tag >= 0xcc && tag <= 0xcf) {
      const value = this.number(1 << (tag - 0xcc));
      if (value >> 63) this.fail("an integer of 64 signed bits was expected");
      return value >> 63 ? 0 : <i64>value;
    }
    if (tag >= 0xd0 && tag <= 0xd3) {
      const width: u32 = 1 << (tag - 0xd0);
      const unused: i64 = 64 - 8 * <i64>width;
      return (<i64>this.number(width) << unused) >> unused;
    }
    this.fail("an integer was expected");
    return 0;
  }

  /** Steps over one value of any kind. A count, not a recursion: nesting cannot exhaust the stack. */
  private skip(): View {
    const from = this.at;
    for (let open: u64 = 1; open && !this.error; open--) open += this.skipHead();
    return new View(from, this.at);
  }

  /** Steps over a head and its scalar payload; returns how many values follow as its children. */
  private skipHead(): u64 {
    const tag = <u32>this.number(1);
    let size: u64 = 0;
    if (tag < 0x80 || tag >= 0xe0) return 0;
    if (tag < 0x90) return 2 * (tag & 0x0f);
    if (tag < 0xa0) return tag & 0x0f;
    if (tag < 0xc0) size = tag & 0x1f;
    else if (tag == 0xc1) this.fail("this byte begins no value");
    else if (tag < 0xc4) size = 0;
    else if (tag < 0xc7) size = this.number(1 << (tag - 0xc4));
    else if (tag < 0xca) size = this.number(1 << (tag - 0xc7)) + 1;
    else if (tag < 0xcc) size = 4 << (tag - 0xca);
    else if (tag < 0xd0) size = 1 << (tag - 0xcc);
    else if (tag < 0xd4) size = 1 << (tag - 0xd0);
    else if (tag < 0xd9) size = 1 + (1 << (tag - 0xd4));
    else if (tag < 0xdc) size = this.number(1 << (tag - 0xd9));
    else if (tag < 0xde) return this.number(2 << (tag - 0xdc));
    else return 2 * this.number(2 << (tag - 0xde));
    this.take(size);
    return 0;
  }
}

/** Reads the whole input map; when it breaks the contract, `error` of the result says why. */
export function readInput(ptr: u32, len: u32): Input {
  const inside = <u64>ptr + len <= <u64>memory.size() << 16;
  const input = new Input(ptr, inside ? ptr + len : ptr);
  if (inside) input.read();
  else input.fail("the input lies outside the memory");
  return input;
}

// ---- The output ----

export class Metric {
  constructor(public name: string, public value: i64) {}
}

let output: u8[] = [];

function put(value: u64, width: i32): void {
  while (width--) output.push(<u8>(value >> (<u64>width << 3)));
}

function putStr(text: string): void {
  const bytes = Uint8Array.wrap(String.UTF8.encode(text));
  if (bytes.length < 32) put(0xa0 | bytes.length, 1);
  else if (bytes.length < 256) put(0xd900 | bytes.length, 2);
  else put(0xda0000 | bytes.length, 3);
  for (let i = 0; i < bytes.length; i++) output.push(bytes[i]);
}

/** The shortest form of MessagePack, as every canonical encoder writes it. */
function putInt(value: i64): void {
  if (value >= -32 && value < 128) put(value, 1);
  else if (value > 0) {
    const size = value <= 0xff ? 0 : value <= 0xffff ? 1 : value <= 0xffffffff ? 2 : 3;
    put(0xcc + size, 1);
    put(value, 1 << size);
  } else {
    const size = value >= -0x80 ? 0 : value >= -0x8000 ? 1 : value >= -0x80000000 ? 2 : 3;
    put(0xd0 + size, 1);
    put(value, 1 << size);
  }
}

function byteOrder(left: Metric, right: Metric): i32 {
  return left.name < right.name ? -1 : left.name > right.name ? 1 : 0;
}

function finish(score: i64, valid: bool, message: string, metrics: Metric[]): i64 {
  output = [];
  put(0x84, 1);
  putStr("score");
  putInt(score);
  putStr("valid");
  put(valid ? 0xc3 : 0xc2, 1);
  putStr("message");
  putStr(message.slice(0, MAX_MESSAGE_UNITS));
  putStr("metrics");
  metrics.sort(byteOrder);
  const count = min(metrics.length, MAX_METRICS);
  if (count < 16) put(0x80 | count, 1);
  else put(0xde0000 | count, 3);
  for (let i = 0; i < count; i++) {
    putStr(metrics[i].name);
    putInt(metrics[i].value);
  }
  return (<i64>output.length << 32) | <i64>output.dataStart;
}

/** Answers {score, valid: true, message, metrics}; the score is clamped to 0..MAX_SCORE. */
export function accept(score: i64, message: string, metrics: Metric[]): i64 {
  const clamped = score < 0 ? 0 : score > MAX_SCORE ? MAX_SCORE : score;
  return finish(clamped, true, message, metrics);
}

/** Answers {score: 0, valid: false, message, metrics: {}}. */
export function refuse(message: string): i64 {
  return finish(0, false, message, []);
}
