// The bytes of docs/protocol.md: node --test. VALUES holds its worked example as JSON, in hex.

import assert from 'node:assert/strict'
import test from 'node:test'
import { verify } from '@scure/sr25519'
import { CodecError, decode, encode, hex, unhex } from './codec.js'
import { Hotkey, idOf, messageOf, payloadOf, submissionOf, topicOf } from './submission.js'

const shown = JSON.parse(process.env.VALUES ?? '{}')
const bytes = name => unhex(shown[name])

test('every bound has its shortest form', () => {
  const forms = [
    [0, '00'], [127, '7f'], [128, 'cc80'], [255, 'ccff'], [256, 'cd0100'], [65535, 'cdffff'],
    [65536, 'ce00010000'], [4294967295, 'ceffffffff'], [4294967296, 'cf0000000100000000'],
    [2n ** 63n - 1n, 'cf7fffffffffffffff'], [null, 'c0'], ['', 'a0'], ['é', 'a2c3a9'],
    [new Uint8Array(), 'c400'], [[], '90'], [[[]], '9190']
  ]
  for (const [value, form] of forms) {
    assert.equal(hex(encode(value)), form)
    assert.deepEqual(decode(unhex(form)), value)
  }
  const heads = [
    ['a'.repeat(31), 'bf61'], ['a'.repeat(32), 'd92061'], ['a'.repeat(256), 'da010061'],
    [new Uint8Array(255), 'c4ff00'], [new Uint8Array(256), 'c5010000'],
    [new Uint8Array(65536), 'c60001000000'], [new Array(15).fill(0), '9f00'],
    [new Array(16).fill(0), 'dc001000'], [new Array(65536).fill(0), 'dd0001000000']
  ]
  for (const [value, head] of heads) {
    const form = encode(value)
    assert.equal(hex(form.subarray(0, head.length / 2)), head)
    assert.deepEqual(decode(form), value)
  }
})

test('what is not canonical is refused', () => {
  const longer = ['cc0d', 'cd000d', 'c5000100', 'd90161', 'dc000100', '0000', '9000']
  const broken = ['', '91', 'c404aa', 'd0ff', 'c2', '80', 'ca00000000', '91'.repeat(99) + '00']
  for (const form of [...longer, ...broken]) {
    assert.throws(() => decode(unhex(form)), CodecError, form)
  }
  for (const value of [-1, 2n ** 63n, undefined, {}, true]) {
    assert.throws(() => encode(value), CodecError)
  }
})

test('the worked example', { skip: shown.seed === undefined && 'VALUES is not set' }, () => {
  const hotkey = new Hotkey(bytes('seed'))
  assert.equal(hex(hotkey.publicKey), shown.hotkey)
  const body = bytes('body')
  const submission = submissionOf({
    networkId: bytes('network-id'),
    challenge: 'series_forecast',
    publicKey: hotkey.publicKey,
    expiryEpoch: 300,
    body
  })
  assert.equal(hex(encode(submission)), shown.submission)
  assert.equal(hex(idOf(submission)), shown['submission-id'])
  const payload = payloadOf(submission)
  assert.equal(hex(payload), shown['signed-payload'])
  assert.ok(verify(payload, bytes('signature'), hotkey.publicKey))
  assert.ok(verify(payload, hotkey.sign(payload), hotkey.publicKey))
  const message = messageOf(submission, bytes('signature'), body)
  assert.equal(hex(message), shown['submission-message'])
  assert.equal(topicOf(bytes('network-id'), 'series_forecast'), shown.topic)
})
