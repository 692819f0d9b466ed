// Canonical MessagePack: docs/protocol.md, section 1.
//
// A record is an array of its fields. Values are: a number or bigint (unsigned, below 2^63), a
// Uint8Array (bin), a string (str), an array, or null. Only the shortest form of each is written
// and read, and nothing may follow the value.

const FAMILIES = {
  bin: [[0x100, 0xc4, 1], [0x10000, 0xc5, 2], [0x100000000, 0xc6, 4]],
  str: [[0x20, 0xa0, 0], [0x100, 0xd9, 1], [0x10000, 0xda, 2]],
  array: [[0x10, 0x90, 0], [0x10000, 0xdc, 2], [0x100000000, 0xdd, 4]]
}
const INTEGERS = [[0xcc, 1, 0x80n], [0xcd, 2, 0x100n], [0xce, 4, 0x10000n], [0xcf, 8, 0x100000000n]]
const LIMIT = 1n << 63n
const MAX_DEPTH = 32

export class CodecError extends Error {
  name = 'CodecError'
}

function bigEndian (value, size) {
  const bytes = new Uint8Array(size)
  let rest = BigInt(value)
  for (let i = size - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn)
    rest >>= 8n
  }
  return bytes
}

function headOf (family, length) {
  for (const [bound, first, size] of FAMILIES[family]) {
    if (length < bound) {
      return size === 0 ? Uint8Array.of(first + length) : concat(Uint8Array.of(first), bigEndian(length, size))
    }
  }
  throw new CodecError(`a ${family} of ${length} is too long`)
}

function encodeInteger (value) {
  const number = BigInt(value)
  if (number < 0n || number >= LIMIT) throw new CodecError(`${value} is not between 0 and 2^63 - 1`)
  if (number < 0x80n) return Uint8Array.of(Number(number))
  const [first, size] = INTEGERS.findLast(([, , least]) => number >= least)
  return concat(Uint8Array.of(first), bigEndian(number, size))
}

export function concat (...parts) {
  return Uint8Array.from(Buffer.concat(parts))
}

export function encode (value) {
  if (value === null) return Uint8Array.of(0xc0)
  if (typeof value === 'number' || typeof value === 'bigint') return encodeInteger(value)
  if (typeof value === 'string') {
    const bytes = new TextEncoder().encode(value)
    return concat(headOf('str', bytes.length), bytes)
  }
  if (value instanceof Uint8Array) return concat(headOf('bin', value.length), value)
  if (Array.isArray(value)) return concat(headOf('array', value.length), ...value.map(encode))
  throw new CodecError(`${typeof value} has no encoding`)
}

class Reader {
  constructor (bytes) {
    this.bytes = bytes
    this.at = 0
  }

  take (size) {
    const part = this.bytes.subarray(this.at, this.at + size)
    if (part.length < size) throw new CodecError(`the data ends inside a value, at byte ${this.at}`)
    this.at += size
    return part
  }

  unsigned (size) {
    return this.take(size).reduce((value, byte) => (value << 8n) | BigInt(byte), 0n)
  }

  value (depth = 0) {
    if (depth > MAX_DEPTH) throw new CodecError(`more than ${MAX_DEPTH} arrays in each other`)
    const [first] = this.take(1)
    if (first < 0x80) return first
    if (first === 0xc0) return null
    const integer = INTEGERS.find(([code]) => code === first)
    if (integer !== undefined) {
      const value = this.unsigned(integer[1])
      return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
    }
    for (const [family, forms] of Object.entries(FAMILIES)) {
      for (const [bound, code, size] of forms) {
        if (size === 0 && first >= code && first < code + bound) return this.member(family, first - code, depth)
        if (size > 0 && first === code) return this.member(family, Number(this.unsigned(size)), depth)
      }
    }
    throw new CodecError(`unknown first byte 0x${first.toString(16)}`)
  }

  member (family, length, depth) {
    if (family === 'bin') return Uint8Array.from(this.take(length))
    if (family === 'str') return new TextDecoder('utf-8', { fatal: true }).decode(this.take(length))
    const items = []
    for (let i = 0; i < length; i++) items.push(this.value(depth + 1))
    return items
  }
}

export function decode (bytes) {
  const value = new Reader(bytes).value()
  if (Buffer.compare(encode(value), bytes) !== 0) {
    throw new CodecError('a longer form was used, or bytes follow the value')
  }
  return value
}

export function hex (bytes) {
  return Buffer.from(bytes).toString('hex')
}

export function unhex (text) {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new CodecError(`${text} is not hex`)
  return Uint8Array.from(Buffer.from(text, 'hex'))
}
