import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { encode } from 'cborg'
import fc from 'fast-check'
import { verifyDocument } from '../src/attest/nitro/verify.ts'
import { reasonOf } from '../src/attest/verdict.ts'
import { NsmError } from '../src/device/devices.ts'
import { Nsm, type RunOnDevice } from '../src/device/nsm.ts'
import { DeviceQueue } from '../src/device/queue.ts'
import { DeviceError, type Transport } from '../src/device/transport.ts'
import { SimulatedTransport } from '../src/simulate/machine.ts'
import { nitroMachine } from '../src/simulate/nitro-machine.ts'
import { createNitroRoot } from '../src/simulate/nitro-pki.ts'
import { NsmEngine } from '../src/simulate/nsm-engine.ts'

type Answer = (request: Uint8Array) => Uint8Array | Promise<Uint8Array>

/** A machine that has nothing but a module. */
function transport(answer: Answer): Transport {
  const absent = (operation: string) => async (path: string) => {
    throw new DeviceError('ENOENT', operation, path)
  }
  return {
    kind: 'simulated',
    stat: absent('stat'),
    list: absent('list'),
    read: absent('read'),
    write: absent('write'),
    mkdir: absent('mkdir'),
    rmdir: absent('rmdir'),
    lock: absent('lock'),
    ioctl: async (path, operation, request) => {
      assert.equal(`${operation} ${path}`, 'nsm /dev/nsm')
      return answer(request)
    },
  }
}

const answering = (response: unknown) => new Nsm(transport(() => encode(response)))
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** A module in software, with what a verifier trusts. */
function simulated() {
  const now = Date.now()
  const root = createNitroRoot(now)
  const engine = new NsmEngine(root, { now: () => now })
  return { machine: new SimulatedTransport(nitroMachine(engine)), root: root.certificate, at: now }
}

/** The calls of the transcript by the names it gives them. */
const CALLS: Readonly<Record<string, (nsm: Nsm) => Promise<unknown>>> = {
  DescribeNSM: (nsm) => nsm.describe(),
  GetRandom: (nsm) => nsm.random(),
  'DescribePCR 0': (nsm) => nsm.describePcr(0),
  'DescribePCR 32': (nsm) => nsm.describePcr(32),
  'DescribePCR 300 (u16 index)': (nsm) => nsm.describePcr(300),
  'ExtendPCR 16 "abc"': (nsm) => nsm.extendPcr(16, Buffer.from('abc')),
  'ExtendPCR 16 again': (nsm) => nsm.extendPcr(16, Buffer.from('abc')),
  'ExtendPCR 16 empty': (nsm) => nsm.extendPcr(16, new Uint8Array(0)),
  'LockPCR 16': (nsm) => nsm.lockPcr(16),
  'LockPCR 16 again': (nsm) => nsm.lockPcr(16),
  'ExtendPCR 16 locked': (nsm) => nsm.extendPcr(16, Uint8Array.of(1)),
  'LockPCRs 4': (nsm) => nsm.lockPcrs(4),
  'LockPCRs 33': (nsm) => nsm.lockPcrs(33),
  'DescribeNSM after locks': (nsm) => nsm.describe(),
  'Attestation all null': (nsm) => nsm.attest({}),
  'Attestation with data': (nsm) =>
    nsm.attest({
      userData: Uint8Array.of(1, 2, 3),
      nonce: new Uint8Array(20).fill(9),
      publicKey: Uint8Array.of(4),
    }),
}

/** What {@link CALLS} end with: a value, or the name of the module's error. */
const RESULTS: Readonly<Record<string, (result: unknown) => void>> = {
  DescribeNSM: (result) =>
    assert.deepEqual(result, {
      version: '1.0.0',
      moduleId: 'i-0aaaabbbbccccdddd-enc0123456789abcdef',
      maxPcrs: 32,
      lockedPcrs: [],
      digest: 'SHA384',
    }),
  GetRandom: (result) =>
    assert.deepEqual(
      result,
      Uint8Array.from({ length: 256 }, (_, i) => i),
    ),
  'DescribePCR 0': (result) =>
    assert.deepEqual(result, { locked: false, value: new Uint8Array(48) }),
  'DescribePCR 32': (result) => assert.equal(result, 'InvalidIndex'),
  'DescribePCR 300 (u16 index)': (result) => assert.equal(result, 'InvalidOperation'),
  'ExtendPCR 16 "abc"': (result) => assert.deepEqual(result, extended('abc')),
  'ExtendPCR 16 again': (result) => assert.deepEqual(result, extended('abc', 'abc')),
  'ExtendPCR 16 empty': (result) => assert.deepEqual(result, extended('abc', 'abc', '')),
  'LockPCR 16': (result) => assert.equal(result, undefined),
  'LockPCR 16 again': (result) => assert.equal(result, 'ReadOnlyIndex'),
  'ExtendPCR 16 locked': (result) => assert.equal(result, 'ReadOnlyIndex'),
  'LockPCRs 4': (result) => assert.equal(result, undefined),
  'LockPCRs 33': (result) => assert.equal(result, 'InvalidIndex'),
  'DescribeNSM after locks': (result) =>
    assert.deepEqual((result as { lockedPcrs: unknown }).lockedPcrs, [0, 1, 2, 3, 16]),
  'Attestation all null': (result) => assert.equal((result as Uint8Array).byteLength, 605),
  'Attestation with data': (result) => assert.equal((result as Uint8Array).byteLength, 629),
}

/** `PCR := SHA384(PCR || data)`, from zero. */
function extended(...data: string[]): Uint8Array {
  let pcr: Uint8Array = new Uint8Array(48)
  for (const item of data) pcr = createHash('sha384').update(pcr).update(item).digest()
  return new Uint8Array(pcr)
}

test('requests are those of the recorded exchanges to the byte, and their answers are read', async () => {
  const path = join(import.meta.dirname, 'fixtures/nitro/nsm-transcript.json')
  const exchanges: { name: string; request: string; response: string }[] = JSON.parse(
    readFileSync(path, 'utf8'),
  )
  assert.deepEqual(
    exchanges.map(({ name }) => name),
    Object.keys(CALLS),
  )
  for (const { name, request, response } of exchanges) {
    const nsm = new Nsm(
      transport((sent) => {
        assert.equal(hex(sent), request, name)
        return Buffer.from(response, 'hex')
      }),
    )
    const result = await CALLS[name]?.(nsm).catch((error) => {
      assert.ok(error instanceof NsmError, `${error}`)
      assert.match(error.message, /^Cannot carry out \w+: the module answers \w+$/)
      return error.code
    })
    RESULTS[name]?.(result)
  }
})

test('every refusal of the module keeps its name', async () => {
  for (const code of [
    'InvalidArgument',
    'InvalidIndex',
    'InvalidResponse',
    'ReadOnlyIndex',
    'InvalidOperation',
    'BufferTooSmall',
    'InputTooLarge',
    'InternalError',
  ]) {
    const nsm = answering({ Error: code })
    for (const call of Object.values(CALLS)) {
      await assert.rejects(call(nsm), { name: 'NsmError', code })
    }
  }
})

const pcr = new Uint8Array(48)
const description = {
  version_major: 1,
  version_minor: 0,
  version_patch: 0,
  module_id: 'i-1-enc1',
  max_pcrs: 32,
  locked_pcrs: [0],
  digest: 'SHA384',
}

test('a response that is not what was asked for is told apart from a refusal', async () => {
  const wrong: [call: (nsm: Nsm) => Promise<unknown>, response: unknown][] = [
    ...[
      null,
      7,
      [],
      'Nope',
      {},
      { Error: 'Success' },
      { Error: 'Unheard of' },
      { Error: 7 },
      { Error: 'InvalidIndex', DescribeNSM: description },
      { GetRandom: { random: new Uint8Array(256) } },
      'DescribeNSM',
      { DescribeNSM: null },
      { DescribeNSM: [description] },
      { DescribeNSM: { ...description, module_id: '' } },
      { DescribeNSM: { ...description, module_id: 'x'.repeat(257) } },
      { DescribeNSM: { ...description, max_pcrs: 65_536 } },
      { DescribeNSM: { ...description, max_pcrs: -1 } },
      { DescribeNSM: { ...description, version_minor: '0' } },
      { DescribeNSM: { ...description, locked_pcrs: [0, '1'] } },
      { DescribeNSM: { ...description, locked_pcrs: 3 } },
      { DescribeNSM: { ...description, digest: 'MD5' } },
      { DescribeNSM: { ...description, digest: undefined } },
    ].map((response): (typeof wrong)[number] => [(nsm) => nsm.describe(), response]),
    [(nsm) => nsm.random(), { GetRandom: { random: new Uint8Array(255) } }],
    [(nsm) => nsm.random(), { GetRandom: { random: 'text' } }],
    [(nsm) => nsm.random(), { GetRandom: {} }],
    [(nsm) => nsm.describePcr(0), { DescribePCR: { lock: 1, data: pcr } }],
    [(nsm) => nsm.describePcr(0), { DescribePCR: { lock: true, data: pcr.subarray(1) } }],
    [(nsm) => nsm.describePcr(0), { ExtendPCR: { data: pcr } }],
    [(nsm) => nsm.extendPcr(0, pcr), { ExtendPCR: { data: new Uint8Array(0) } }],
    [(nsm) => nsm.extendPcr(0, pcr), 'ExtendPCR'],
    [(nsm) => nsm.lockPcr(0), 'LockPCRs'],
    [(nsm) => nsm.lockPcr(0), { LockPCR: {} }],
    [(nsm) => nsm.lockPcr(0), { LockPCR: null }],
    [(nsm) => nsm.lockPcrs(0), 'LockPCR'],
    [(nsm) => nsm.attest({}), { Attestation: { document: pcr } }],
    [(nsm) => nsm.attest({}), { Attestation: { document: null } }],
  ]
  for (const [call, response] of wrong) {
    const bytes = encode(response, { ignoreUndefinedProperties: true })
    const nsm = new Nsm(transport(() => bytes))
    await assert.rejects(call(nsm), (error) => {
      assert.ok(error instanceof NsmError, `${error}`)
      assert.equal(error.code, 'InvalidResponse')
      assert.match(error.message, /^Cannot carry out \w+: its response (is|has|holds|answers) /)
      return true
    })
  }
})

test('what the driver would not take is not sent', async () => {
  const { machine } = simulated()
  let longest = 0
  const nsm = new Nsm(
    transport((request) => {
      longest = Math.max(longest, request.byteLength)
      return machine.ioctl('/dev/nsm', 'nsm', request)
    }),
  )
  // 27 bytes go to names and lengths.
  await nsm.extendPcr(16, new Uint8Array(4096 - 27))
  assert.equal(longest, 4096)
  for (const length of [4096 - 26, 4096, 100_000]) {
    await assert.rejects(nsm.extendPcr(16, new Uint8Array(length)), { code: 'InputTooLarge' })
  }
  await assert.rejects(nsm.attest({ userData: new Uint8Array(4096) }), { code: 'InputTooLarge' })
  const half = new Uint8Array(2040)
  await assert.rejects(nsm.attest({ userData: half, nonce: half }), { code: 'InputTooLarge' })
  // How much of each field is too much, the module says.
  await assert.rejects(nsm.attest({ nonce: new Uint8Array(1025) }), {
    code: 'InputTooLarge',
    message: /the module answers/,
  })
  for (const index of [-1, 0.5, 65_536, Number.NaN]) {
    for (const call of [
      nsm.describePcr(index),
      nsm.extendPcr(index, pcr),
      nsm.lockPcr(index),
      nsm.lockPcrs(index),
    ]) {
      await assert.rejects(call, { name: 'NsmError', code: 'InvalidIndex' })
    }
  }
  assert.equal(longest, 4096)
})

test('errors of the device pass unchanged', async () => {
  const error = new DeviceError('ETIMEDOUT', 'ioctl', '/dev/nsm')
  const nsm = new Nsm(
    transport(() => {
      throw error
    }),
  )
  for (const call of Object.values(CALLS)) await assert.rejects(call(nsm), error)
})

test('documents verify and carry exactly what was asked for', async () => {
  const { machine, root, at } = simulated()
  const nsm = new Nsm(machine)
  await nsm.extendPcr(16, Buffer.from('abc'))
  await nsm.lockPcr(16)
  assert.ok((await nsm.describe()).lockedPcrs.includes(16))
  const { locked, value } = await nsm.describePcr(16)
  assert.ok(locked)
  assert.deepEqual(value, extended('abc'))
  const reportData = new Uint8Array(64).fill(5)
  const nonce = Uint8Array.of(1)
  const document = await nsm.attest({ userData: reportData, nonce })
  const policy = { pcrs: new Map([[16, value]]) }
  const verdict = verifyDocument(document, { root, at, reportData, nonce, policy })
  assert.ok(verdict.accepted, reasonOf(verdict)?.detail)
  assert.equal(verdict.claims?.publicKey, undefined)
  await nsm.attest({})
  await nsm.attest({ userData: new Uint8Array(0) })
  await nsm.attest({ userData: new Uint8Array(1024), nonce: new Uint8Array(1024), publicKey: pcr })
})

test('a document for someone else is no answer', async () => {
  const { machine } = simulated()
  const asked = { userData: Uint8Array.of(1), nonce: Uint8Array.of(2), publicKey: Uint8Array.of(3) }
  const other = await new Nsm(machine).attest(asked)
  const nsm = answering({ Attestation: { document: other } })
  assert.deepEqual(await nsm.attest(asked), other)
  const differing = [
    {},
    { ...asked, userData: Uint8Array.of(9) },
    { ...asked, nonce: Uint8Array.of(2, 2) },
    { ...asked, publicKey: undefined },
    { userData: asked.nonce, nonce: asked.userData, publicKey: asked.publicKey },
  ]
  for (const fields of differing) {
    await assert.rejects(nsm.attest(fields), { name: 'NsmError', code: 'InvalidResponse' })
  }
})

test('calls go through what runs them, with a key only where an answer may be shared', async () => {
  const { machine } = simulated()
  const seen: { caller: string | undefined; key: string | undefined }[] = []
  const run: RunOnDevice = (work, options) => {
    seen.push({ caller: options?.caller, key: options?.key })
    return work()
  }
  const nsm = new Nsm(machine, run)
  const options = { caller: 'me' }
  for (const call of [
    () => nsm.attest({}, options),
    () => nsm.attest({ nonce: pcr }, options),
    () => nsm.attest({ userData: pcr }, options),
    () => nsm.describe(options),
    () => nsm.describePcr(1, options),
    () => nsm.describePcr(2, options),
  ]) {
    await call()
    await call()
  }
  const keys = seen.map(({ key }) => key)
  assert.ok(keys.every((key, i) => key !== undefined && (i % 2 === 0 || key === keys[i - 1])))
  assert.equal(new Set(keys).size, 6)
  seen.length = 0
  await nsm.random(options)
  await nsm.extendPcr(16, pcr, options)
  await nsm.lockPcr(16, options)
  await nsm.lockPcrs(1, options).catch(() => {})
  assert.deepEqual(seen, Array(4).fill({ caller: 'me', key: undefined }))
})

test('through a queue one call is made at a time, and equal ones share an answer', async () => {
  const { machine } = simulated()
  let running = 0
  let made = 0
  const nsm = new Nsm(
    transport(async (request) => {
      made++
      assert.equal(++running, 1)
      await new Promise((resolve) => setTimeout(resolve, 1))
      running--
      return machine.ioctl('/dev/nsm', 'nsm', request)
    }),
    (work, options) => queue.run(work, options),
  )
  const queue = new DeviceQueue({ device: 'the NSM' })
  const fields = (i: number) => ({ nonce: Uint8Array.of(i) })
  const documents = await Promise.all([0, 1, 2, 0, 1, 2].map((i) => nsm.attest(fields(i))))
  assert.equal(made, 3)
  assert.deepEqual(documents[0], documents[3])
  // Each holds bytes of its own.
  documents[0]?.fill(0)
  assert.notDeepEqual(documents[0], documents[3])
  const random = await Promise.all([nsm.random(), nsm.random()])
  assert.notDeepEqual(random[0], random[1])
})

test('whatever comes back, a call ends with an answer or a typed error', async () => {
  const { machine } = simulated()
  const genuine = new Map<string, Uint8Array>()
  const recorder = new Nsm(
    transport(async (request) => {
      const response = await machine.ioctl('/dev/nsm', 'nsm', request)
      genuine.set(hex(request), response)
      return response
    }),
  )
  const names = ['DescribeNSM', 'GetRandom', 'DescribePCR 0', 'Attestation with data']
  for (const name of names) await CALLS[name]?.(recorder)
  const damage = fc.record({
    cut: fc.option(fc.nat(12_288), { nil: undefined }),
    flips: fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
  })
  const response = fc.oneof(fc.uint8Array({ maxLength: 64 }), damage)
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...names), response, async (name, change) => {
      const nsm = new Nsm(
        transport((request) => {
          if (change instanceof Uint8Array) return change
          const bytes = Uint8Array.from(genuine.get(hex(request)) ?? []).subarray(0, change.cut)
          for (const [at, octet] of change.flips) bytes[at % (bytes.length || 1)] = octet
          return bytes
        }),
      )
      await CALLS[name]?.(nsm).catch((error) => assert.ok(error instanceof NsmError, `${error}`))
    }),
    { numRuns: 1000 },
  )
})
