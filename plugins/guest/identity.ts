import { hash, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fromHex, toHex } from '../../src/attest/hex.ts'
import { defaultAppId, instanceId } from '../../src/attest/identity.ts'
import type { AppIdentity } from '../../src/attester/app-identity.ts'
import { errnoOf, messageOf } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files/atomic-file.ts'
import { readTextFile } from '../../src/files/text-file.ts'
import type { Config } from './config.ts'
import type { Measured } from './measured.ts'

const MAX_FILE_BYTES = 1024 * 1024

/** What the plugin itself needs beside who the application is. */
export interface Identity extends AppIdentity {
  /** Whether everybody may see registers and configuration. */
  readonly publicTcbInfo: boolean
  /** Whether everybody may see figures of the machine. */
  readonly publicSysInfo: boolean
}

/**
 * Reads the application's files.
 *
 * @param stateDir Where the seed of the instance id is kept, made when it is first needed.
 * @param measured Ids that the boot measured go before those that follow from files.
 * @throws {Error} Naming the file that cannot be read or is not what it should be.
 */
export async function loadIdentity(
  config: Config,
  stateDir: string,
  measured: Measured,
): Promise<Identity> {
  const { app_compose: file } = config
  const appCompose = file === undefined ? '' : await readTextFile(file, MAX_FILE_BYTES)
  const compose = file === undefined ? {} : parseObject(appCompose, `"${file}"`)
  const composeHash = hash('sha256', appCompose)
  const appId =
    config.app_id ??
    measured.get('app-id') ??
    toHex(defaultAppId(fromHex(composeHash, 'compose hash')))
  const instance = async () =>
    measured.get('instance-id') ??
    toHex(instanceId(await instanceSeed(stateDir), fromHex(appId, 'app id')))
  const vmConfig = await readVmConfig(config.sys_config)
  const anonymous = config.no_instance_id ?? compose.no_instance_id === true
  return {
    appName: typeof compose.name === 'string' ? compose.name : '',
    appId,
    instanceId: anonymous ? '' : await instance(),
    composeHash,
    appCompose,
    osImageHash:
      config.os_image_hash ??
      measured.get('os-image-hash') ??
      imageHashOf(vmConfig, `vm_config of "${config.sys_config}"`),
    vmConfig,
    keyProvider: config.key_provider,
    publicTcbInfo: config.public_tcbinfo ?? compose.public_tcbinfo !== false,
    publicSysInfo: config.public_sysinfo ?? compose.public_sysinfo === true,
  }
}

async function instanceSeed(stateDir: string): Promise<Uint8Array> {
  const path = join(stateDir, 'instance-seed')
  try {
    const seed = await readFile(path)
    if (seed.byteLength === 20) return seed
    throw new RangeError(`it has ${seed.byteLength} bytes, expected 20`)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') {
      const why = messageOf(error)
      throw new Error(`Cannot use the seed of the instance id, "${path}": ${why}`, { cause: error })
    }
    const seed = randomBytes(20)
    await writeFileAtomic(path, seed)
    return seed
  }
}

async function readVmConfig(path: string | undefined): Promise<string> {
  if (path === undefined) return ''
  const sysConfig = parseObject(await readTextFile(path, MAX_FILE_BYTES), `"${path}"`)
  const { vm_config: text = '' } = sysConfig
  if (typeof text === 'string') return text
  throw new Error(`Cannot use "${path}": vm_config is not JSON text in a string`)
}

function imageHashOf(vmConfig: string, where: string): string {
  if (vmConfig === '') return ''
  const { os_image_hash: found = '' } = parseObject(vmConfig, where)
  if (found === '') return ''
  if (typeof found === 'string' && /^[0-9a-f]{64}$/i.test(found)) return found.toLowerCase()
  throw new Error(`Cannot use ${where}: os_image_hash is not 64 hex digits`)
}

function parseObject(text: string, where: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new Error(`Cannot use ${where}: ${messageOf(cause)}`, { cause })
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>
  }
  throw new Error(`Cannot use ${where}: expected a JSON object`)
}
