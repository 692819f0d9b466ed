// Reads records from the DHT.
//
//   node --import ./polyfill.js read.js --node MULTIADDR [--node ...] --key KEY [--key ...] \
//       [--deadline SECONDS]
//
// It is connected to the nodes that are named and finds the others through them. It prints one
// JSON object: the values by key, in hex. A record that nobody has yet is waited for until the
// deadline; the exit status is 1 if it does not come.

import { parseArgs } from 'node:util'
import { hex } from './codec.js'
import { Validator, readRecord, start } from './node.js'

const { values: options } = parseArgs({
  options: {
    node: { type: 'string', multiple: true },
    key: { type: 'string', multiple: true },
    deadline: { type: 'string', default: '30' }
  }
})
for (const name of ['node', 'key']) {
  if (options[name] === undefined) throw new Error(`--${name} is missing`)
}

async function run () {
  const signal = AbortSignal.timeout(Number(options.deadline) * 1000)
  const libp2p = await start()
  try {
    for (const address of options.node) await new Validator(libp2p, address).connect(signal)
    const records = {}
    for (const key of options.key) records[key] = hex(await readRecord(libp2p, key, signal))
    return records
  } finally {
    await libp2p.stop()
  }
}

// A pipe takes a long text in parts: the process may end when it has all of them.
process.stdout.write(JSON.stringify(await run()) + '\n', () => process.exit(0))
