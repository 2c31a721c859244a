// Reading and judging evidence, per document: a quote with collateral, a Nitro document, a boot event
// log. `bun bench/attest.ts`, `node --import tsx bench/attest.ts`.

import { randomBytes } from 'node:crypto'
import { decode, encode } from 'cborg'
import { ccelEntries } from '../src/attest/ccel.ts'
import { parseDocument } from '../src/attest/nitro/document.ts'
import { verifyDocument } from '../src/attest/nitro/verify.ts'
import { replay } from '../src/attest/replay.ts'
import { parseCollateral } from '../src/attest/tdx/collateral.ts'
import { parseQuote } from '../src/attest/tdx/quote.ts'
import { verifyQuote } from '../src/attest/tdx/verify.ts'
import { bootEvents, writeBootLog } from '../src/simulate/boot-log.ts'
import { createNitroRoot } from '../src/simulate/nitro-pki.ts'
import { NsmEngine } from '../src/simulate/nsm-engine.ts'
import { createCollateral } from '../src/simulate/tdx-collateral.ts'
import { createTdxPki } from '../src/simulate/tdx-pki.ts'
import { createQuotingEnclave } from '../src/simulate/tdx-quote.ts'
import { TrustDomain } from '../src/simulate/trust-domain.ts'
import { type Case, measure } from './measure.ts'

const now = Date.now()

await measure([...tdx(), ...nitro(), ...bootLog()])

function tdx(): Case[] {
  const pki = createTdxPki(now)
  const reportData = randomBytes(64)
  const quote = createQuotingEnclave(pki)(new TrustDomain().report(reportData))
  const text = JSON.stringify(createCollateral(pki, now))
  const collateral = parseCollateral(text)
  const root = pki.root.certificate
  return [
    { name: 'TDX quote, parse', count: 100, work: () => times(100, () => parseQuote(quote)) },
    {
      name: 'TDX quote, verify with collateral',
      count: 10,
      work: () =>
        times(10, () => accepted(verifyQuote(quote, { root, collateral, at: now, reportData }))),
    },
    {
      name: 'TDX collateral, parse',
      count: 10,
      work: () => times(10, () => parseCollateral(text)),
    },
  ]
}

function nitro(): Case[] {
  const root = createNitroRoot(now)
  const document = documentOf(new NsmEngine(root))
  const options = { root: root.certificate, at: now }
  return [
    {
      name: 'Nitro document, parse',
      count: 100,
      work: () => times(100, () => parseDocument(document)),
    },
    {
      name: 'Nitro document, verify',
      count: 10,
      work: () => times(10, () => accepted(verifyDocument(document, options))),
    },
  ]
}

function documentOf(engine: NsmEngine): Uint8Array {
  const request = encode({
    Attestation: { user_data: randomBytes(64), nonce: null, public_key: null },
  })
  const answer = decode(engine.answer(request)) as { Attestation: { document: Uint8Array } }
  return answer.Attestation.document
}

function bootLog(): Case[] {
  const log = writeBootLog(bootEvents())
  return [
    {
      name: 'boot event log, parse and replay',
      count: 10,
      work: () => times(10, () => replay(ccelEntries(log))),
    },
  ]
}

function times(count: number, work: () => unknown): void {
  for (let i = 0; i < count; i++) work()
}

function accepted(verdict: { readonly accepted: boolean; readonly steps: unknown }): void {
  if (!verdict.accepted) throw new Error(`refused: ${JSON.stringify(verdict.steps)}`)
}
