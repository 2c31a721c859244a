import * as v from 'valibot'
import type { BootInfo } from './boot-info.ts'
import { parseJson } from './json.ts'
import { type Decision, deny, type PolicyFacts, type Role } from './policy.ts'

const texts = (most = 256) => v.array(v.pipe(v.string(), v.maxLength(most)))

/** Hex of a fixed length in either case, with `0x` or without; read as the latter in lower case. */
const hex = (bytes: number) =>
  v.pipe(
    v.string(),
    v.regex(new RegExp(`^(?:0x)?[0-9a-f]{${2 * bytes}}$`, 'i')),
    v.transform(plainHex),
  )

const plainHex = (text: string): string => text.toLowerCase().replace(/^0x/, '')

const hashes = () =>
  v.pipe(
    v.optional(v.array(hex(32)), []),
    v.transform((values) => new Set(values)),
  )

const App = v.strictObject({
  composeHashes: hashes(),
  devices: hashes(),
  allowAnyDevice: v.optional(v.boolean(), false),
  keys: v.optional(texts(4096)),
})

/**
 * The file of dstack's `auth-simple` (`kms/auth-simple/index.ts` at 27cc12d7), with two members of
 * our own: `mrSystem`, and `keys` of an application. Unknown members are errors, as a misspelt
 * restriction must not be one that is not there.
 */
const Registry = v.strictObject({
  gatewayAppId: v.optional(v.pipe(v.string(), v.maxLength(256)), ''),
  kmsContractAddr: v.optional(v.string()),
  chainId: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
  appImplementation: v.optional(v.string()),
  osImages: hashes(),
  mrSystem: v.optional(hashes()),
  allowedTcbStatuses: v.optional(texts(), ['UpToDate']),
  allowedAdvisoryIds: v.optional(texts(), []),
  kms: v.optional(
    v.strictObject({
      mrAggregated: hashes(),
      devices: hashes(),
      allowAnyDevice: v.optional(v.boolean(), false),
    }),
    {},
  ),
  apps: v.pipe(
    v.optional(v.record(v.pipe(v.string(), v.regex(/^(?:0x)?[0-9a-f]{40}$/i)), App), {}),
    v.transform((apps) => Object.entries(apps).map(([id, app]) => [plainHex(id), app] as const)),
    v.check((apps) => new Set(apps.map(([id]) => id)).size === apps.length),
    v.transform((apps) => new Map(apps)),
  ),
})

/** Who is registered. */
export type Registry = v.InferOutput<typeof Registry>

/**
 * Reads the file's content.
 *
 * @throws {Error} As {@link parseJson}.
 */
export const parseRegistry = (text: string): Registry => parseJson(Registry, text)

/** What the registry says of somebody, in the order and the words of `auth-simple`. */
export function judge(registry: Registry, role: Role, info: BootInfo): Decision {
  const { allowedTcbStatuses, allowedAdvisoryIds, osImages, mrSystem } = registry
  if (!allowedTcbStatuses.includes(info.tcbStatus)) return deny('TCB status is not allowed')
  if (!info.advisoryIds.every((id) => allowedAdvisoryIds.includes(id))) {
    return deny('advisory ID is not allowed')
  }
  if (!osImages.has(info.osImageHash)) return deny('OS image is not allowed')
  if (mrSystem !== undefined && !mrSystem.has(info.mrSystem)) return deny('system MR not allowed')
  return role === 'kms' ? judgeKms(registry, info) : judgeApp(registry, info)
}

function judgeKms({ kms, gatewayAppId }: Registry, info: BootInfo): Decision {
  if (!kms.mrAggregated.has(info.mrAggregated)) return deny('aggregated MR not allowed')
  if (!onAllowedDevice(kms, info)) return deny('KMS is not allowed to boot on this device')
  return { allowed: true, gatewayAppId }
}

function judgeApp({ apps, gatewayAppId }: Registry, info: BootInfo): Decision {
  const app = apps.get(info.appId)
  if (app === undefined) return deny('app not registered')
  if (!app.composeHashes.has(info.composeHash)) return deny('compose hash not allowed')
  if (!onAllowedDevice(app, info)) return deny('app is not allowed to boot on this device')
  return { allowed: true, gatewayAppId, keys: app.keys }
}

/** Unlike in `auth-simple`, an empty list means no device, as it says. */
function onAllowedDevice(
  { allowAnyDevice, devices }: { allowAnyDevice: boolean; devices: ReadonlySet<string> },
  info: BootInfo,
): boolean {
  return allowAnyDevice || devices.has(info.deviceId)
}

/** What GetMeta tells of it. */
export function factsOf(registry: Registry): PolicyFacts {
  const { gatewayAppId, kmsContractAddr, chainId, appImplementation } = registry
  const contract = { kmsContractAddress: kmsContractAddr, chainId, appImplementation }
  return { isDev: false, gatewayAppId, ...contract }
}
