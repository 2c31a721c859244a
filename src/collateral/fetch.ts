import type { IncomingHttpHeaders } from 'node:http'
import { clearTimeout, setTimeout } from 'node:timers'
import { EvidenceError } from '../attest/evidence-error.ts'
import { toHex } from '../attest/hex.ts'
import { parseCollateral } from '../attest/tdx/collateral.ts'
import type { Anchor } from '../attest/tdx/trust.ts'
import { type Downloaded, download } from './download.ts'
import { checkCollateral, factsOf, type KnownCollateral } from './facts.ts'
import { type Pccs, pccsPart } from './pccs-url.ts'
import type { QuotedPlatform } from './platform.ts'
import { TrustError, type TrustErrorCode } from './trust-error.ts'

/** As much as `parseCollateral` reads of all parts together. */
const MAX_PART_BYTES = 256 * 1024

/**
 * Gets everything about one kind of platform, and verifies it: what was changed on the way is not
 * worth keeping.
 *
 * @param signal Ends the work.
 * @throws {TrustError} Any `PCCS_…` but `PCCS_BUSY`; and what `authorities` throws.
 */
export async function fetchCollateral(
  service: Pccs,
  platform: QuotedPlatform,
  anchor: Anchor,
  signal?: AbortSignal,
): Promise<KnownCollateral> {
  const ca = await service.authorities?.()
  const { base, rootCrl, deadlineMs } = service
  const parts = await inTime(deadlineMs, shownOf(service), signal, (signal) => {
    const get = (url: URL) => download({ url, ca, most: MAX_PART_BYTES, signal })
    return Promise.all([
      get(pccsPart(base, 'sgx', 'pckcrl', { ca: platform.ca, encoding: 'der' })),
      get(rootCrl),
      get(pccsPart(base, 'tdx', 'tcb', { fmspc: platform.fmspc })),
      get(pccsPart(base, 'tdx', 'qe/identity')),
    ])
  })
  const [pckCrl, ofRoot, tcbInfo, identity] = parts
  const pckCrlChain = chainOf(pckCrl.headers, 'sgx-pck-crl-issuer-chain', service)
  const found = unlessMalformed('PCCS_MALFORMED', service, () => {
    const collateral = parseCollateral(
      JSON.stringify({
        root_ca_crl: crlOf(ofRoot),
        pck_crl: crlOf(pckCrl),
        tcb_info: textOf(tcbInfo),
        tcb_info_issuer_chain: chainOf(tcbInfo.headers, 'tcb-info-issuer-chain', service),
        qe_identity: textOf(identity),
        qe_identity_issuer_chain: chainOf(
          identity.headers,
          'sgx-enclave-identity-issuer-chain',
          service,
        ),
      }),
    )
    return { collateral, facts: factsOf(collateral) }
  })
  const { fmspc, ca: authority } = found.facts
  if (fmspc !== platform.fmspc || authority !== platform.ca) {
    const why = `it is about ${authority} ${fmspc}, not ${platform.ca} ${platform.fmspc}`
    throw unusable('PCCS_MALFORMED', service, why)
  }
  unlessMalformed('PCCS_UNVERIFIED', service, () =>
    checkCollateral(found.collateral, pckCrlChain, anchor),
  )
  return found
}

/** Ends the work when its time is up, one part of it fails, or nobody waits any more. */
async function inTime<T>(
  ms: number,
  shown: string,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController()
  const end = (code: TrustErrorCode, why: string) =>
    controller.abort(new TrustError(code, `Cannot ask ${shown}: ${why}`))
  const onAbort = () => end('PCCS_ABORTED', 'it is no longer needed')
  outer?.addEventListener('abort', onAbort)
  if (outer?.aborted) onAbort()
  const timer = setTimeout(() => end('PCCS_TIMEOUT', `no answer within ${ms} ms`), ms)
  try {
    return await work(controller.signal)
  } finally {
    clearTimeout(timer)
    outer?.removeEventListener('abort', onAbort)
    // Where one part failed, the others are of no use.
    onAbort()
  }
}

/** PEM, out of a header where it is URL-encoded; some services encode spaces as in forms. */
function chainOf(headers: IncomingHttpHeaders, name: string, service: Pccs): string {
  const found = headers[name]
  if (typeof found !== 'string') {
    throw unusable('PCCS_MALFORMED', service, `the header "${name}" is missing`)
  }
  try {
    const isForm = found.startsWith('-----BEGIN+')
    return decodeURIComponent(isForm ? found.replaceAll('+', ' ') : found)
  } catch {
    throw unusable('PCCS_MALFORMED', service, `the header "${name}" is not URL-encoded`)
  }
}

/** A list as `parseCollateral` takes it: caches send that of the root in hex, and others as DER. */
function crlOf({ body }: Downloaded): string {
  return body[0] === 0x30 ? toHex(body) : new TextDecoder().decode(body).trim()
}

function textOf({ body }: Downloaded): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body)
  } catch (cause) {
    throw new EvidenceError('COLLATERAL_MALFORMED', 'it is no UTF-8 text', { cause })
  }
}

function unlessMalformed<T>(code: TrustErrorCode, service: Pccs, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof EvidenceError)) throw error
    throw unusable(code, service, error.message)
  }
}

const unusable = (code: TrustErrorCode, service: Pccs, why: string): TrustError =>
  new TrustError(code, `Cannot use collateral of ${shownOf(service)}: ${why}`)

const shownOf = ({ base }: Pccs): string => `${base.origin}${base.pathname.replace(/\/$/, '')}`
