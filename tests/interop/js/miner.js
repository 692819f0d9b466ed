// A miner that knows only docs/protocol.md: it publishes one submission and prints its receipt.
//
//   node --import ./polyfill.js miner.js --node MULTIADDR [--node ...] --genesis FILE \
//       --seed HEX --challenge NAME --body-file FILE [--deadline SECONDS]
//
// It prints one JSON object: submission_id, epoch (in which it was made), state, reason, receipt
// (hex). The exit status is 0 if it ended, 1 if it was refused or anything failed.

import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { hex, unhex } from './codec.js'
import { Validator, publish, start } from './node.js'
import {
  Hotkey, idOf, messageOf, payloadOf, sha256, submissionOf, topicOf
} from './submission.js'

const { values: options } = parseArgs({
  options: {
    node: { type: 'string', multiple: true },
    genesis: { type: 'string' },
    seed: { type: 'string' },
    challenge: { type: 'string' },
    'body-file': { type: 'string' },
    deadline: { type: 'string', default: '30' }
  }
})
for (const name of ['node', 'genesis', 'seed', 'challenge', 'body-file']) {
  if (options[name] === undefined) throw new Error(`--${name} is missing`)
}

async function submit (libp2p, validator, signal) {
  const networkId = sha256(await readFile(options.genesis))
  const body = Uint8Array.from(await readFile(options['body-file']))
  const status = await validator.status(signal)
  if (hex(status.networkId) !== hex(networkId)) {
    throw new Error(`the node is of network ${hex(status.networkId)}`)
  }
  const { challenge } = options
  const hotkey = new Hotkey(unhex(options.seed))
  const { publicKey } = hotkey
  const expiryEpoch = BigInt(status.epoch) + 1n
  const submission = submissionOf({ networkId, challenge, publicKey, expiryEpoch, body })
  const id = idOf(submission)
  const message = messageOf(submission, hotkey.sign(payloadOf(submission)), body)
  await publish(libp2p, validator, topicOf(networkId, challenge), message, signal)
  const reply = await validator.ended(id, signal)
  return { id, epoch: status.epoch, ...reply }
}

async function run () {
  const signal = AbortSignal.timeout(Number(options.deadline) * 1000)
  const libp2p = await start()
  try {
    const validators = options.node.map(address => new Validator(libp2p, address))
    for (const validator of validators) await validator.connect(signal)
    const ended = await submit(libp2p, validators[0], signal)
    return {
      submission_id: hex(ended.id),
      epoch: Number(ended.epoch),
      state: ended.state,
      reason: ended.reason,
      receipt: hex(ended.receipt)
    }
  } finally {
    await libp2p.stop()
  }
}

const outcome = await run()
process.stdout.write(JSON.stringify(outcome) + '\n', () => {
  process.exit(outcome.state === 'ended' ? 0 : 1)
})
