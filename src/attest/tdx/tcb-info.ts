import * as v from 'valibot'
import { EvidenceError } from '../evidence-error.ts'
import { fromHex, isHex } from '../hex.ts'

/** What Intel says of a platform's version of everything: its trusted computing base. */
export type TcbStatus =
  | PlatformStatus
  // Of a running TD whose module was updated under it (spec tdx §8 step 13).
  | 'TDRelaunchAdvised'
  | 'TDRelaunchAdvisedConfigurationNeeded'

type PlatformStatus = (typeof PLATFORM_STATUSES)[number]

const PLATFORM_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const

const bytes = (length: number) =>
  v.pipe(
    v.string(),
    v.length(2 * length),
    v.check(isHex, 'not hex'),
    v.transform((text) => fromHex(text, 'hex')),
  )
const number = (most: number) => v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(most))
/** To the second in UTC, as Intel writes it; milliseconds. */
const date = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/),
  v.transform((text) => Date.parse(text)),
  v.number(),
)
const list = <const Item extends v.GenericSchema>(item: Item) =>
  v.pipe(v.array(item), v.maxLength(256))
const components = v.pipe(v.array(v.object({ svn: number(0xff) })), v.length(16))
const advisoryIDs = v.optional(list(v.pipe(v.string(), v.maxLength(64))), [])

const SvnLevel = v.object({
  tcb: v.object({ isvsvn: number(0xffff) }),
  tcbDate: date,
  tcbStatus: v.picklist(['UpToDate', 'OutOfDate', 'Revoked']),
  advisoryIDs,
})
const PlatformLevel = v.object({
  tcb: v.object({
    sgxtcbcomponents: components,
    pcesvn: number(0xffff),
    tdxtcbcomponents: components,
  }),
  tcbDate: date,
  tcbStatus: v.picklist(PLATFORM_STATUSES),
  advisoryIDs,
})
const Module = v.object({ mrsigner: bytes(48), attributes: bytes(8) })
const ModuleIdentity = v.object({
  ...Module.entries,
  id: v.pipe(v.string(), v.maxLength(16)),
  tcbLevels: v.pipe(list(SvnLevel), v.minLength(1)),
})
const TcbInfo = v.object({
  id: v.literal('TDX'),
  version: v.literal(3),
  issueDate: date,
  nextUpdate: date,
  fmspc: bytes(6),
  pceId: bytes(2),
  tcbEvaluationDataNumber: number(0xffff_ffff),
  tdxModule: Module,
  tdxModuleIdentities: v.optional(list(ModuleIdentity), []),
  tcbLevels: v.pipe(list(PlatformLevel), v.minLength(1)),
})
const QeIdentity = v.object({
  id: v.literal('TD_QE'),
  version: v.literal(2),
  issueDate: date,
  nextUpdate: date,
  tcbEvaluationDataNumber: number(0xffff_ffff),
  miscselect: bytes(4),
  miscselectMask: bytes(4),
  attributes: bytes(16),
  attributesMask: bytes(16),
  mrsigner: bytes(32),
  isvprodid: number(0xffff),
  tcbLevels: v.pipe(list(SvnLevel), v.minLength(1)),
})

/** The levels of one kind of platform, highest first; names are Intel's, dates milliseconds. */
export type TcbInfo = v.InferOutput<typeof TcbInfo>
/** Which quoting enclaves are Intel's for TDX, and their levels. */
export type QeIdentity = v.InferOutput<typeof QeIdentity>
/** A state of microcode, modules and PCE, with what Intel says of it. */
export type PlatformLevel = v.InferOutput<typeof PlatformLevel>
/** A version of a TDX module or quoting enclave. */
export type SvnLevel = v.InferOutput<typeof SvnLevel>
/** What a TDX module must look like. */
export type Module = v.InferOutput<typeof Module>
/** A TDX module of one major version: `TDX_01`, … */
export type ModuleIdentity = v.InferOutput<typeof ModuleIdentity>

const MAX_CHARACTERS = 256 * 1024

/**
 * Reads TCB info for TDX, version 3.
 *
 * @throws {EvidenceError} `TCB_INFO_MALFORMED`.
 */
export const readTcbInfo = (text: string): TcbInfo =>
  read(TcbInfo, text, 'TCB info', 'TCB_INFO_MALFORMED')

/**
 * Reads the identity of the TDX quoting enclave, version 2.
 *
 * @throws {EvidenceError} `QE_IDENTITY_MALFORMED`.
 */
export const readQeIdentity = (text: string): QeIdentity =>
  read(QeIdentity, text, 'QE identity', 'QE_IDENTITY_MALFORMED')

function read<Schema extends v.GenericSchema>(
  schema: Schema,
  text: string,
  what: string,
  code: string,
): v.InferOutput<Schema> {
  const refuse = (found: string, cause?: unknown) =>
    new EvidenceError(code, `Cannot read ${what}: ${found}`, { cause })
  if (text.length > MAX_CHARACTERS) {
    throw refuse(`${text.length} characters, at most ${MAX_CHARACTERS} are read`)
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw refuse('it is not JSON', cause)
  }
  const result = v.safeParse(schema, value, { abortEarly: true })
  if (result.success) return result.output
  const [issue] = result.issues
  throw refuse(`${v.getDotPath(issue) ?? 'the whole'}: ${issue.message}`)
}
