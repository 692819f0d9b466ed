// What a miner builds and signs: docs/protocol.md, sections 2 to 5.

import { createHash } from 'node:crypto'
import { getPublicKey, secretFromSeed, sign } from '@scure/sr25519'
import { concat, encode, hex } from './codec.js'

export const MAX_BODY_BYTES = 4096
const DOMAIN = new TextEncoder().encode('validator/v1\0submission\0')

export function sha256 (bytes) {
  return Uint8Array.from(createHash('sha256').update(bytes).digest())
}

export class Hotkey {
  constructor (seed) {
    this.secret = secretFromSeed(seed)
    this.publicKey = getPublicKey(this.secret)
  }

  sign (message) {
    return sign(this.secret, message)
  }
}

// Section 3: the content that is signed, in field order.
export function submissionOf ({ networkId, challenge, publicKey, expiryEpoch, body }) {
  if (body.length > MAX_BODY_BYTES) {
    throw new Error(`the body has ${body.length} bytes, the limit is ${MAX_BODY_BYTES}`)
  }
  const version = 0 // whichever is active
  return [networkId, challenge, version, 'plain', publicKey, expiryEpoch, sha256(body), body.length]
}

export function idOf (submission) {
  return sha256(encode(submission))
}

// Section 4: the bytes that the hotkey signs.
export function payloadOf (submission) {
  const [networkId] = submission
  return concat(DOMAIN, networkId, idOf(submission))
}

// Section 5: what is published.
export function messageOf (submission, signature, body) {
  return encode([[[['admit', submission, signature], body]]])
}

export function topicOf (networkId, challenge) {
  return `/validator/1/${shortId(networkId)}/submissions/${challenge}`
}

// The first 16 hex digits of the network id, which name the network in topics and record keys.
export function shortId (networkId) {
  return hex(networkId).slice(0, 16)
}
