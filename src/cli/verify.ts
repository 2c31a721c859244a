import { defineCommand } from 'citty'
import { EvidenceError } from '../attest/evidence-error.ts'
import { jsonArg, out, outJson } from './common.ts'
import { collateralFor } from './verify/collateral.ts'
import { recognise } from './verify/evidence.ts'
import {
  parseHex,
  parseRoot,
  parseStatuses,
  parseTime,
  readInput,
  UNREADABLE,
  unreadable,
} from './verify/input.ts'
import { judge } from './verify/judge.ts'
import { verdictJson, verdictText } from './verify/print.ts'

/** The most that user data of an NSM document can be. */
const MAX_REPORT_DATA_BYTES = 1024
const MAX_NONCE_BYTES = 1024

/**
 * `cvmd verify`: judges evidence of any form. Ends with 0 when it is accepted, 1 when it is
 * rejected, 2 when it, a file or a flag cannot be read.
 */
export const verify = defineCommand({
  meta: {
    name: 'verify',
    description: 'Judge a quote, a Nitro document, or an answer that holds one',
  },
  args: {
    file: {
      type: 'positional',
      description: 'Binary, hex, base64, or a JSON answer; - for standard input',
      required: false,
    },
    collateral: {
      type: 'string',
      description: "Intel's collateral for the quote, JSON",
      valueHint: 'FILE',
    },
    pccs: {
      type: 'string',
      description: 'Ask this service for it, such as https://api.trustedservices.intel.com',
      valueHint: 'URL',
    },
    'save-collateral': {
      type: 'string',
      description: 'Keep what --pccs gave, for --collateral another time',
      valueHint: 'FILE',
    },
    root: {
      type: 'string',
      description: "Certificate to trust in place of Intel's or Amazon's, PEM or DER",
      valueHint: 'FILE',
    },
    at: {
      type: 'string',
      description: 'Judge as of this time, RFC 3339 or Unix seconds (default now)',
      valueHint: 'TIME',
    },
    'report-data': {
      type: 'string',
      description: 'Report data of a quote, zeros after it left out, or user data of a document',
      valueHint: 'HEX',
    },
    nonce: { type: 'string', description: 'Nonce it must be made for', valueHint: 'HEX' },
    log: {
      type: 'string',
      description: 'Event log to check against it: CCEL or JSON; the events of an attested log',
      valueHint: 'FILE',
    },
    'tcb-status': {
      type: 'string',
      description: 'TCB statuses to accept, with commas between (default UpToDate)',
      valueHint: 'LIST',
    },
    'without-collateral': {
      type: 'boolean',
      description: 'Judge the signatures of a quote alone: neither revocation nor TCB status',
      default: false,
    },
    'allow-debug': {
      type: 'boolean',
      description: 'Accept a machine whose memory can be read from outside',
      default: false,
    },
    ...jsonArg,
  },
  async run({ args }) {
    try {
      const { form, verdict } = await verifyFile(args)
      if (args.json) outJson(verdictJson(form, verdict))
      else out(verdictText(form, verdict))
      process.exitCode = verdict.accepted ? 0 : verdict.claims === undefined ? UNREADABLE : 1
    } catch (error) {
      if (error instanceof EvidenceError) throw unreadable(error.message)
      throw error
    }
  },
})

interface Flags {
  readonly file?: string | undefined
  readonly collateral?: string | undefined
  readonly pccs?: string | undefined
  readonly 'save-collateral'?: string | undefined
  readonly root?: string | undefined
  readonly at?: string | undefined
  readonly 'report-data'?: string | undefined
  readonly nonce?: string | undefined
  readonly log?: string | undefined
  readonly 'tcb-status'?: string | undefined
  readonly 'without-collateral': boolean
  readonly 'allow-debug': boolean
}

async function verifyFile(flags: Flags) {
  const { at, nonce, 'report-data': reportData, 'tcb-status': statuses } = flags
  const options = {
    at: at === undefined ? Date.now() : parseTime(at),
    reportData:
      reportData === undefined
        ? undefined
        : parseHex('--report-data', reportData, MAX_REPORT_DATA_BYTES),
    nonce: nonce === undefined ? undefined : parseHex('--nonce', nonce, MAX_NONCE_BYTES),
    acceptedStatuses: statuses === undefined ? undefined : parseStatuses(statuses),
    withoutCollateral: flags['without-collateral'],
    allowDebug: flags['allow-debug'],
  }
  if (flags.file === undefined) throw unreadable('give a FILE to verify, or - for standard input')
  const paths = [flags.file, flags.collateral, flags.root, flags.log]
  if (paths.filter((path) => path === '-').length > 1) {
    throw unreadable('standard input can be read only once')
  }
  const [file, rootFile, log] = await Promise.all(
    [flags.file, flags.root, flags.log].map((path) =>
      path === undefined ? undefined : readInput(path),
    ),
  )
  const evidence = recognise(file as Uint8Array)
  const root = rootFile && parseRoot(rootFile)
  const collateral = await collateralFor(evidence, {
    collateral: flags.collateral,
    pccs: flags.pccs,
    save: flags['save-collateral'],
    root,
    at: options.at,
  })
  const verdict = judge(evidence, { ...options, collateral, root, log })
  return { form: evidence.form, verdict }
}
