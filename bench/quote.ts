// A quote through the queue and the configfs-tsm protocol, over a fake tree on disk, beside a C
// program that makes the same system calls; and 64 callers at one device. `bun bench/quote.ts`,
// `node --import tsx bench/quote.ts`. The native addon opens only the kernel's own paths: for it,
// quote.mjs mounts a file system in memory there, which `--mounted` tells.

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { QueueError } from '../src/device/devices.ts'
import { FileTransport } from '../src/device/file-transport.ts'
import { loadNative } from '../src/device/native.ts'
import { TSM_REPORT } from '../src/device/paths.ts'
import { Tdx } from '../src/device/tdx.ts'
import type { Transport } from '../src/device/transport.ts'
import { createTdxPki } from '../src/simulate/tdx-pki.ts'
import { createQuotingEnclave } from '../src/simulate/tdx-quote.ts'
import { TrustDomain } from '../src/simulate/trust-domain.ts'

/** Plain JavaScript, because `npm run bench` needs no loader. */
const STATS: string = './stats.mjs'
const { quantile } = (await import(STATS)) as {
  quantile(numbers: readonly number[], share: number): number
}

/** One line of the table. */
type Row = Readonly<Record<string, string | number>>

const quick = process.argv.includes('--quick')
const mounted = process.argv.includes('--mounted')
/** Quotes made by one side before it is the other's turn, so that both see the same load. */
const BATCH = 100
const BATCHES = quick ? 2 : 20
/** What the device of the second comparison needs for a quote. */
const DEVICE_MS = 5
const CALLERS = 64
/** Quotes per caller. */
const SHARE = quick ? 10 : 50
const FACTS = { canQuote: true, canReport: false, canExtend: false }
/** Where report data is in a quote of version 4: behind the header, at 520 of the body. */
const REPORT_DATA_OFFSET = 48 + 520

const root = mounted ? '/' : makeRoot()
/** Entries are made in `report`; `report/attributes` holds the files of all of them. */
const tree = join(root, dirname(TSM_REPORT))
makeTree()
if (!mounted) process.on('exit', () => rmSync(root, { recursive: true }))
const ways = waysToDevices()
const program = compile()
const rows = [
  ...(await compared('no device time', BATCHES)),
  await fairness('64 callers, places for all', { waiting: CALLERS - 1 }),
  await fairness('64 callers, 16 places', {}),
  // Last, because from here on the tree's quotes take time.
  ...(program === undefined ? [] : await withDevice(program)),
]
if (process.argv.includes('--json')) console.log(JSON.stringify(rows))
else console.table(rows)

/** In memory, as configfs is: a disk's journal would be most of what is measured. */
function makeRoot(): string {
  const base = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
  return mkdtempSync(join(base, 'cvmd-bench-quote-'))
}

function makeTree(): void {
  const attributes = join(tree, 'report', 'attributes')
  mkdirSync(attributes, { recursive: true })
  const signQuote = createQuotingEnclave(createTdxPki(Date.now()))
  const quote = signQuote(new TrustDomain().report(new Uint8Array(64)))
  const files = { generation: '0\n', provider: 'tdx_guest\n', inblob: '', outblob: quote }
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(attributes, name), content)
  }
}

function waysToDevices(): readonly Transport[] {
  const files = new FileTransport(root)
  if (!mounted) return [files]
  const native = loadNative()
  return 'transport' in native ? [native.transport, files] : [files]
}

/**
 * The tree as the device layer sees it. Every call is made on disk; of what is read, the counter
 * and the report data, which no plain file would change, are put in afterwards.
 */
function fakeTree(way: Transport): Transport {
  const attribute = (path: string) => `${TSM_REPORT}/attributes${path.slice(path.lastIndexOf('/'))}`
  let generation = 0
  let reportData = new Uint8Array()
  return {
    kind: way.kind,
    stat: (path) => way.stat(path),
    list: (path) => way.list(path),
    mkdir: (path) => way.mkdir(path),
    rmdir: (path) => way.rmdir(path),
    ioctl: (path, operation, input) => way.ioctl(path, operation, input),
    lock: (path) => way.lock(path),
    async read(path, maxBytes) {
      const bytes = await way.read(attribute(path), maxBytes)
      if (path.endsWith('/generation')) return new TextEncoder().encode(`${generation}\n`)
      if (path.endsWith('/outblob')) bytes.set(reportData, REPORT_DATA_OFFSET)
      return bytes
    },
    async write(path, bytes) {
      await way.write(attribute(path), bytes)
      generation++
      reportData = new Uint8Array(bytes)
    },
  }
}

/** Quotes one after the other, in turns with the C program. */
async function compared(device: string, batches: number): Promise<Row[]> {
  const inC: number[] = []
  const own = ways.map((way) => ({
    name: `cvmd, ${way.kind} calls, ${device}`,
    tdx: new Tdx(fakeTree(way), { facts: FACTS }),
    times: [] as number[],
  }))
  for (let batch = 0; batch < batches; batch++) {
    if (program !== undefined) {
      const output = execFileSync(program, [tree, `${BATCH}`], { encoding: 'utf8' })
      inC.push(...output.trim().split('\n').map(Number))
    }
    for (const { tdx, times } of own) times.push(...(await quotes(tdx)))
  }
  if (program === undefined) return own.map(({ name, times }) => timesRow(name, times))
  const yardstick = quantile(inC, 0.5)
  return [
    timesRow(`C, ${device}`, inC),
    ...own.map(({ name, times }) => ({
      ...timesRow(name, times),
      'ratio p50': quantile(times, 0.5) / yardstick,
    })),
  ]
}

/** Nanoseconds of each quote of a batch; as many as the C program leaves out are left out. */
async function quotes(tdx: Tdx): Promise<number[]> {
  const times: number[] = []
  for (let i = -BATCH / 10; i < BATCH; i++) {
    const started = performance.now()
    await tdx.quote(reportDataOf(i))
    if (i >= 0) times.push((performance.now() - started) * 1e6)
  }
  return times
}

/** The same with a device that takes time, though less than any real one. */
async function withDevice(program: string): Promise<Row[]> {
  const device = spawn(program, [tree, 'serve', `${DEVICE_MS * 1000}`], { stdio: 'inherit' })
  try {
    while (!statSync(join(tree, 'report', 'attributes', 'outblob')).isFIFO()) {
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    return await compared(`${DEVICE_MS} ms of device time`, Math.ceil(BATCHES / 5))
  } finally {
    const { pid } = device
    if (pid !== undefined) process.kill(pid)
    await new Promise((resolve) => device.once('exit', resolve))
  }
}

/** The program of quote.c; undefined without a compiler. */
function compile(): string | undefined {
  const program = join(tree, 'report', 'attributes', 'quote')
  try {
    execFileSync('cc', ['-O2', '-Wall', '-o', program, 'bench/quote.c'])
    return program
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

function timesRow(name: string, ns: readonly number[]): Row {
  return { case: name, 'p50 µs': quantile(ns, 0.5) / 1000, 'p99 µs': quantile(ns, 0.99) / 1000 }
}

/**
 * How evenly callers are served, and how long it takes to be refused. Each comes again a moment
 * after its answer, whatever that was.
 */
async function fairness(name: string, options: { readonly waiting?: number }): Promise<Row> {
  const tdx = new Tdx(fakeTree(ways[0] as Transport), { facts: FACTS, ...options })
  const served = new Array<number>(CALLERS).fill(0)
  const refusals: number[] = []
  let left = CALLERS * SHARE
  let asked = 0
  const caller = async (_: unknown, i: number) => {
    while (left > 0) {
      const data = reportDataOf(asked++)
      const started = performance.now()
      try {
        await tdx.quote(data, { caller: `${i}` })
        left--
        served[i] = (served[i] ?? 0) + 1
      } catch (error) {
        if (!(error instanceof QueueError) || error.code !== 'QUEUE_FULL') throw error
        refusals.push((performance.now() - started) * 1e6)
      }
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 10))
    }
  }
  await Promise.all(Array.from({ length: CALLERS }, caller))
  const spread = { 'max/min served': Math.max(...served) / Math.min(...served) }
  return refusals.length === 0
    ? { case: name, ...spread }
    : { ...timesRow(`${name}: time to be refused`, refusals), ...spread }
}

function reportDataOf(i: number): Uint8Array {
  const data = new Uint8Array(64)
  new DataView(data.buffer).setInt32(0, i)
  return data
}
