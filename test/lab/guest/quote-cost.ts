/** What a quote costs over the real configfs-tsm core, beside a C program with the same calls. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { parseQuote } from '../../../src/attest/tdx/quote.ts'
import { Tdx } from '../../../src/device/tdx.ts'
import type { Transport } from '../../../src/device/transport.ts'
import { test } from './harness.ts'
import { plug, reportEntries } from './stage.ts'

/** Of `quote.c`. */
const PROGRAM = '/cvmd/dist/quote'

/** Quotes made by one side before it is the other's turn, so that both see the same load. */
const BATCH = 50
const BATCHES = 4

/** Adds the test. It fails for a quote that is not the caller's own, not for one that is slow. */
export function quoteCost(transport: Transport): void {
  test(`cost: ${BATCH * BATCHES} quotes each by C and by cvmd hold their own data`, async () => {
    plug('tdx')
    const facts = { canQuote: true, canReport: false, canExtend: false }
    const tdx = new Tdx(transport, { facts })
    const inC: number[] = []
    const own: number[] = []
    for (let batch = 0; batch < BATCHES; batch++) {
      inC.push(...timesInC())
      own.push(...(await times(tdx, batch)))
    }
    assert.deepEqual([inC.length, own.length], [BATCH * BATCHES, BATCH * BATCHES])
    assert.deepEqual(reportEntries(), [])
    row('', 'p50 µs', 'p99 µs', 'ratio p50')
    for (const [name, ns] of Object.entries({ C: inC, cvmd: own })) {
      const p50 = quantile(ns, 0.5)
      const ratio = p50 / quantile(inC, 0.5)
      row(name, micros(p50), micros(quantile(ns, 0.99)), ratio.toFixed(2))
    }
  })
}

/** Nanoseconds of each quote of a batch. */
function timesInC(): number[] {
  const output = execFileSync(PROGRAM, [String(BATCH)], { encoding: 'utf8' })
  return output.trim().split('\n').map(Number)
}

/** The same; as many as the C program leaves out are left out. */
async function times(tdx: Tdx, batch: number): Promise<number[]> {
  const found: number[] = []
  for (let i = -BATCH / 10; i < BATCH; i++) {
    const data = new Uint8Array(64)
    data.set(Buffer.from(`cvmd ${batch} ${i}`))
    const started = performance.now()
    const quote = await tdx.quote(data)
    const ended = performance.now()
    assert.deepEqual(Buffer.from(parseQuote(quote).reportData), Buffer.from(data))
    if (i >= 0) found.push((ended - started) * 1e6)
  }
  return found
}

/** The value below which a share of the numbers lies (nearest rank). */
function quantile(numbers: readonly number[], share: number): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.ceil(share * sorted.length) - 1] as number
}

const micros = (ns: number): string => (ns / 1000).toFixed(0)

/** Indented, so that the report shows it. */
function row(name: string, ...cells: readonly string[]): void {
  console.log(`  ${name.padEnd(6)}${cells.map((cell) => cell.padStart(11)).join('')}`)
}
