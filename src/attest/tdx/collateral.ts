import * as v from 'valibot'
import { readPem } from '../../x509/pem.ts'
import { EvidenceError } from '../evidence-error.ts'
import { fromHex, isHex, toHex } from '../hex.ts'

/** What Intel publishes about a platform, as far as a quote is verified with it; not verified. */
export interface Collateral {
  /** Revocation list of the root, DER: platform authorities and TCB signers. */
  readonly rootCrl: Uint8Array
  /** Revocation list of the authority that issued the PCK certificate, DER. */
  readonly pckCrl: Uint8Array
  readonly tcbInfo: SignedText
  readonly qeIdentity: SignedText
}

/** A JSON text with a signature over exactly these characters. */
export interface SignedText {
  readonly text: string
  /** 64 bytes, r and s: ECDSA on P-256 with SHA-256. */
  readonly signature: Uint8Array
  /** PEM: the signer, then the root. */
  readonly issuerChain: string
}

/** Intel's take about 20 KiB; more JSON than this would take longer than 50 ms to read. */
const MAX_COLLATERAL_BYTES = 256 * 1024

const File = v.object({
  root_ca_crl: v.string(),
  pck_crl: v.string(),
  tcb_info_issuer_chain: v.string(),
  tcb_info: v.string(),
  tcb_info_signature: v.optional(v.string()),
  qe_identity_issuer_chain: v.string(),
  qe_identity: v.string(),
  qe_identity_signature: v.optional(v.string()),
})

/**
 * Reads a collateral file: one JSON object of strings, as dcap-qvl and dstack write it. CRLs may
 * be hex, base64 or PEM; issuer chains PEM, also URL-encoded as in the headers of Intel's service
 * (PCS) and its caches. `tcb_info` and `qe_identity` are the signed text itself, or the complete
 * body of the PCS answer, which brings its signature along.
 *
 * @throws {EvidenceError} `COLLATERAL_TOO_LONG`, `COLLATERAL_MALFORMED` or `PEM_MALFORMED`.
 */
export function parseCollateral(file: string | Uint8Array): Collateral {
  if (file.length > MAX_COLLATERAL_BYTES) {
    throw new EvidenceError(
      'COLLATERAL_TOO_LONG',
      `Cannot read collateral: ${file.length} bytes, at most ${MAX_COLLATERAL_BYTES} are read`,
    )
  }
  const fields = readFile(typeof file === 'string' ? file : Buffer.from(file).toString('utf8'))
  return {
    rootCrl: decodeCrl(fields.root_ca_crl, 'root_ca_crl'),
    pckCrl: decodeCrl(fields.pck_crl, 'pck_crl'),
    tcbInfo: readSignedText(fields, 'tcb_info', 'tcbInfo'),
    qeIdentity: readSignedText(fields, 'qe_identity', 'enclaveIdentity'),
  }
}

/** Collateral as {@link parseCollateral} reads it; JSON. */
export function formatCollateral({ rootCrl, pckCrl, tcbInfo, qeIdentity }: Collateral): string {
  const file: v.InferOutput<typeof File> = {
    root_ca_crl: toHex(rootCrl),
    pck_crl: toHex(pckCrl),
    tcb_info_issuer_chain: tcbInfo.issuerChain,
    tcb_info: tcbInfo.text,
    tcb_info_signature: toHex(tcbInfo.signature),
    qe_identity_issuer_chain: qeIdentity.issuerChain,
    qe_identity: qeIdentity.text,
    qe_identity_signature: toHex(qeIdentity.signature),
  }
  return `${JSON.stringify(file, undefined, 2)}\n`
}

function readFile(text: string): v.InferOutput<typeof File> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw malformed('it is not JSON', cause)
  }
  const result = v.safeParse(File, value)
  if (result.success) return result.output
  const [issue] = result.issues
  throw malformed(`${v.getDotPath(issue) ?? 'the whole'}: ${issue.message}`)
}

/** @param wrapper The member that holds the text in the body of a PCS answer. */
function readSignedText(
  fields: v.InferOutput<typeof File>,
  name: 'tcb_info' | 'qe_identity',
  wrapper: string,
): SignedText {
  const { text, signature = fields[`${name}_signature`] } = unwrap(fields[name], wrapper)
  if (signature === undefined) throw malformed(`${name}_signature is missing`)
  if (signature.length !== 128 || !isHex(signature)) {
    throw malformed(`${name}_signature is not 64 bytes of hex`)
  }
  const issuerChain = decodeChain(fields[`${name}_issuer_chain`], name)
  return { text, signature: fromHex(signature, `${name}_signature`), issuerChain }
}

/** The exact text, since parsing and writing it again would break the signature. */
function unwrap(body: string, wrapper: string): { text: string; signature?: string } {
  const start = `{"${wrapper}":`
  const middle = ',"signature":"'
  const at = body.lastIndexOf(middle)
  if (!body.startsWith(start) || at < 0) return { text: body }
  const [signature = ''] = body.slice(at + middle.length).split('"', 1)
  return { text: body.slice(start.length, at), signature }
}

function decodeChain(text: string, name: string): string {
  if (!text.startsWith('-----BEGIN%20')) return text
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw malformed(`${name}_issuer_chain is not URL-encoded`, cause)
  }
}

function decodeCrl(text: string, name: string): Uint8Array {
  if (text.startsWith('-----BEGIN')) {
    const [der] = readPem(text, 'X509 CRL', 1)
    if (der === undefined) throw malformed(`${name} has no X509 CRL block`)
    return der
  }
  // A CRL begins with 0x30 and a long length: "308" in hex, "MI" in base64.
  if (isHex(text)) return fromHex(text, name)
  const der = Buffer.from(text, 'base64')
  if (der.toString('base64') !== text) throw malformed(`${name} is neither hex, base64 nor PEM`)
  return der
}

function malformed(found: string, cause?: unknown): EvidenceError {
  const message = `Cannot read collateral: ${found}`
  return new EvidenceError('COLLATERAL_MALFORMED', message, { cause })
}
