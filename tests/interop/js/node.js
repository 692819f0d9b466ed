// A libp2p node that is connected to validators: docs/protocol.md, sections 6 and 7.

import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { byteStream } from '@libp2p/utils'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { setTimeout as sleep } from 'node:timers/promises'
import { concat, decode } from './codec.js'

const STATUS = '/validator/1/status'
const RECEIPT = '/validator/1/receipt'
const MAX_REPLY_BYTES = 262_144
const REQUEST_MS = 10_000
const POLL_MS = 100

// The kinds of records that the DHT holds, by the first part of their keys.
const KINDS = [
  'submission', 'result', 'validators', 'checkpoint', 'evidence', 'node', 'blob', 'bundle'
]
// What a record claims is verified by whoever reads it; here it is enough that there is one.
const validators = Object.fromEntries(KINDS.map(kind => [kind, notEmpty]))
const selectors = Object.fromEntries(KINDS.map(kind => [kind, () => 0]))

function notEmpty (_, value) {
  if (value.length === 0) throw new Error('the record is empty')
}

export async function start () {
  return createLibp2p({
    addresses: { listen: [] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: {
      identify: identify(),
      ping: ping(),
      pubsub: gossipsub({
        globalSignaturePolicy: 'StrictSign',
        floodPublish: true,
        allowPublishToZeroTopicPeers: true
      }),
      dht: kadDHT({
        protocol: '/ipfs/kad/1.0.0',
        clientMode: true,
        // The default leaves out private addresses, and a test network has no others.
        peerInfoMapper: passthroughMapper,
        validators,
        selectors
      })
    }
  })
}

export class Validator {
  constructor (libp2p, address) {
    this.libp2p = libp2p
    this.address = multiaddr(address)
  }

  // Connect; also returns when connected already.
  async connect (signal) {
    const connection = await this.libp2p.dial(this.address, { signal })
    this.peerId = connection.remotePeer
  }

  // One request frame, one reply frame, on a stream of its own (section 7).
  async request (protocol, data, signal) {
    signal = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS)])
    const stream = await this.libp2p.dialProtocol(this.address, protocol, { signal })
    try {
      const bytes = byteStream(stream)
      const prefix = new Uint8Array(4)
      new DataView(prefix.buffer).setUint32(0, data.length)
      await bytes.write(concat(prefix, data), { signal })
      const head = (await bytes.read({ bytes: 4, signal })).subarray()
      const size = new DataView(head.buffer, head.byteOffset).getUint32(0)
      if (size > MAX_REPLY_BYTES) throw new Error(`${protocol}: a reply of ${size} bytes`)
      if (size === 0) return new Uint8Array()
      return (await bytes.read({ bytes: size, signal })).subarray()
    } finally {
      stream.abort(new Error('done'))
    }
  }

  async status (signal) {
    const fields = decode(await this.request(STATUS, new Uint8Array(), signal))
    const [networkId, epoch, height, chainHash, view] = fields
    return { networkId, epoch, height, chainHash, view }
  }

  async receipt (id, signal) {
    const [state, reason, receipt] = decode(await this.request(RECEIPT, id, signal))
    return { state, reason, receipt }
  }

  // Ask until the validator has a receipt or has refused the submission.
  async ended (id, signal) {
    for (;;) {
      const reply = await this.receipt(id, signal)
      if (reply.state === 'ended' || reply.state === 'refused') return reply
      await sleep(POLL_MS, undefined, { signal })
    }
  }
}

// Publish once this validator's subscription is known; before that the message would go nowhere.
export async function publish (libp2p, validator, topic, data, signal) {
  const { pubsub } = libp2p.services
  while (!pubsub.getSubscribers(topic).some(peer => peer.equals(validator.peerId))) {
    await sleep(POLL_MS, undefined, { signal })
  }
  const { recipients } = await pubsub.publish(topic, data)
  if (recipients.length === 0) throw new Error(`nobody took the message on ${topic}`)
}

// The first value any node returns under the key. One that is not there yet is waited for.
export async function readRecord (libp2p, key, signal) {
  const bytes = new TextEncoder().encode(key)
  for (;;) {
    for await (const event of libp2p.services.dht.get(bytes, { signal })) {
      // Not the VALUE event: before it the library writes its choice to nodes that hold another.
      if (event.name === 'PEER_RESPONSE' && event.record != null) return event.record.value
    }
    await sleep(POLL_MS, undefined, { signal })
  }
}
