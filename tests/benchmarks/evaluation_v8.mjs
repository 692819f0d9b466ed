// A guest module under V8, each evaluation in a fresh instance: the benchmark's outside yardstick.
//
// One JSON object a line on stdin. The first brings module, input, seed and time; each later one
// says for how many seconds to evaluate. The answer to it holds the output and each duration in ns.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

const RANDOM_TAG = Buffer.from("platform/random/v1\0");
let module, input, seed, timeMs;

function imports(state) {
  const view = (pointer, size) => new Uint8Array(state.memory.buffer, pointer >>> 0, size >>> 0);
  const nothing = () => -1;
  return {
    platform: {
      log: () => {},
      time_ms: () => timeMs,
      random: (pointer, size) => {
        const target = view(pointer, size);
        for (let i = 0; i < target.length; i++, state.at++) {
          if (state.at % 32 === 0) {
            const number = Buffer.alloc(8);
            number.writeBigUInt64BE(BigInt(state.at / 32));
            state.block = createHash("sha256").update(RANDOM_TAG).update(seed).update(number).digest();
          }
          target[i] = state.block[state.at % 32];
        }
      },
      sha256: (pointer, size, out) => {
        view(out, 32).set(createHash("sha256").update(view(pointer, size)).digest());
      },
      data_get: nothing,
      storage_get: nothing,
      storage_put: () => {},
    },
  };
}

function evaluate() {
  const state = { at: 0, block: undefined, memory: undefined };
  const guest = new WebAssembly.Instance(module, imports(state)).exports;
  state.memory = guest.memory;
  const pointer = guest.alloc(input.length) >>> 0;
  new Uint8Array(guest.memory.buffer).set(input, pointer);
  const packed = BigInt.asUintN(64, guest.evaluate(pointer, input.length));
  const start = Number(packed & 0xffffffffn);
  return Buffer.from(new Uint8Array(guest.memory.buffer, start, Number(packed >> 32n)));
}

function measure(seconds) {
  const took = [];
  let output;
  let now = process.hrtime.bigint();
  const end = now + BigInt(Math.round(seconds * 1e9));
  do {
    output = evaluate();
    const then = now;
    now = process.hrtime.bigint();
    took.push(Number(now - then));
  } while (now < end);
  return { output: output.toString("hex"), took };
}

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  let answer = {};
  if (question.module) {
    module = new WebAssembly.Module(Buffer.from(question.module, "hex"));
    input = Buffer.from(question.input, "hex");
    seed = Buffer.from(question.seed, "hex");
    timeMs = BigInt(question.timeMs);
  } else {
    answer = measure(question.seconds);
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
