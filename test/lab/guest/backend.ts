/**
 * Plays the hardware: answers what the kernel module hands out, with evidence that verifies under
 * the simulator's own roots.
 */
import { open, writeFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { encode } from 'cborg'
import { bootEvents } from '../../../src/simulate/boot-log.ts'
import { createNitroRoot } from '../../../src/simulate/nitro-pki.ts'
import { NsmEngine } from '../../../src/simulate/nsm-engine.ts'
import { createCollateral } from '../../../src/simulate/tdx-collateral.ts'
import { createTdxPki } from '../../../src/simulate/tdx-pki.ts'
import { createQuotingEnclave } from '../../../src/simulate/tdx-quote.ts'
import { type RtmrIndex, TrustDomain } from '../../../src/simulate/trust-domain.ts'
import { type Fault, faultOf, type Hardware, setStage, TRUST } from './stage.ts'

/** What one device can answer. */
interface Answers {
  /** The true answer to a request. */
  proper(request: Uint8Array): Uint8Array
  /** The true answer to another request. */
  foreign(): Uint8Array
  /** As much as there may be: more than the kernel passes on, or just what it does. */
  readonly huge: Uint8Array
  /** How the device itself tells of an error; undefined where its driver does, by errno. */
  refusal?(name: string): Uint8Array
}

setStage()
await Promise.all([
  serve('tdx', '/dev/labqgs', await tdx()),
  serve('nsm', '/dev/labnsm', await nsm()),
])

async function tdx(): Promise<Answers> {
  const pki = createTdxPki(Date.now())
  const collateral = JSON.stringify(createCollateral(pki, Date.now()))
  await writeFile(`${TRUST}/tdx-root.der`, pki.root.certificate)
  await writeFile(`${TRUST}/tdx-collateral.json`, collateral)
  const domain = bootedDomain()
  await writeFile('/dev/labtdreport', domain.report(new Uint8Array(64)))
  const signQuote = createQuotingEnclave(pki)
  return {
    proper: (report) => signQuote(report),
    foreign: () => signQuote(domain.report(new Uint8Array(64).fill(0xee))),
    // Linux 6.12 passes on 32 KiB.
    huge: new Uint8Array(40_000),
  }
}

/** A trust domain whose registers are what the boot log in the firmware replays to. */
function bootedDomain(): TrustDomain {
  const domain = new TrustDomain()
  for (const { register, digest } of bootEvents()) {
    domain.extend((register - 1) as RtmrIndex, digest)
  }
  return domain
}

async function nsm(): Promise<Answers> {
  const root = createNitroRoot(Date.now())
  await writeFile(`${TRUST}/nitro-root.der`, root.certificate)
  const engine = new NsmEngine(root)
  const empty = { user_data: null, nonce: null, public_key: null }
  return {
    proper: (request) => engine.answer(request),
    foreign: () => engine.answer(encode({ Attestation: empty })),
    huge: new Uint8Array(12_288),
    refusal: (name) => encode({ Error: name }),
  }
}

async function serve(hardware: Hardware, path: string, answers: Answers): Promise<never> {
  const device = await open(path, 'r+')
  const buffer = new Uint8Array(4096)
  console.log(`lab: serving ${hardware}`)
  for (;;) {
    const { bytesRead } = await device.read(buffer, 0, buffer.length, null)
    while (faultOf(hardware) === 'hang') await new Promise((tick) => setTimeout(tick, 50))
    try {
      await device.write(respond(answers, buffer.slice(0, bytesRead), faultOf(hardware)))
    } catch (error) {
      // The kernel gave up waiting meanwhile.
      if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error
    }
  }
}

/** What is written: an errno or zero, then the response. */
function respond(answers: Answers, request: Uint8Array, fault: Fault | undefined): Uint8Array {
  const answered = (response: Uint8Array) => Buffer.concat([Uint8Array.of(0), response])
  switch (fault) {
    case undefined:
    case 'hang':
      return answered(answers.proper(request))
    case 'foreign':
      return answered(answers.foreign())
    case 'huge':
      return answered(answers.huge)
    case 'empty':
      return answered(new Uint8Array())
    case 'junk':
      return answered(new Uint8Array(5000).fill(0x41))
    case 'InternalError':
      return answered(answers.refusal?.(fault) ?? new Uint8Array())
    default:
      return Uint8Array.of(constants.errno[fault])
  }
}
