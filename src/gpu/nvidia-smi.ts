import { searchPath } from '../process/host-program.ts'
import { runProcess } from '../process/run.ts'

/** What NVIDIA's driver tells of one GPU. */
export interface NvidiaFacts {
  /** `GPU-…`, by which container engines are asked for it. */
  readonly uuid: string
  /** Bytes. */
  readonly memory: number | undefined
  /** Degrees Celsius. */
  readonly temperature: number | undefined
  /** `550.54.15` */
  readonly driverVersion: string
  readonly name: string
}

/** Whether confidential computing is on, as the driver says; for all GPUs of the machine alike. */
export type ConfidentialState = 'on' | 'off' | 'devtools' | 'unknown'

const FIELDS = ['pci.bus_id', 'uuid', 'memory.total', 'temperature.gpu', 'driver_version', 'name']
const TIMEOUT_MS = 5000
const MAX_OUTPUT_BYTES = 64 * 1024

/** By slot; undefined where there is no `nvidia-smi`, or it fails. */
export async function askNvidia(): Promise<ReadonlyMap<string, NvidiaFacts> | undefined> {
  const text = await run([`--query-gpu=${FIELDS.join(',')}`, '--format=csv,noheader,nounits'])
  return text === undefined ? undefined : parseNvidia(text)
}

/** As printed: `00000000:28:00.0, 81559, 31, 550.54.15, NVIDIA H100 80GB HBM3`; sizes in MiB. */
export function parseNvidia(text: string): ReadonlyMap<string, NvidiaFacts> {
  const found = new Map<string, NvidiaFacts>()
  for (const line of text.split('\n').slice(0, 256)) {
    const [bus = '', uuid = '', memory = '', temperature = '', driverVersion = '', ...name] =
      line.split(', ')
    const [, domain, rest] =
      /^[0-9a-f]{0,4}([0-9a-f]{4})(:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$/i.exec(bus) ?? []
    if (domain === undefined || rest === undefined) continue
    found.set(`${domain}${rest}`.toLowerCase(), {
      uuid: /^GPU-[\w-]{1,64}$/.test(uuid) ? uuid : '',
      memory: /^\d{1,9}$/.test(memory) ? Number(memory) * 1024 * 1024 : undefined,
      temperature: /^-?\d{1,4}$/.test(temperature) ? Number(temperature) : undefined,
      driverVersion,
      name: name.join(', ').trim(),
    })
  }
  return found
}

/** `nvidia-smi conf-compute -f` prints `CC status: ON`, `OFF`, or that of the development tools. */
export async function askConfidential(): Promise<ConfidentialState> {
  return parseConfidential((await run(['conf-compute', '-f'])) ?? '')
}

export function parseConfidential(text: string): ConfidentialState {
  const [, word = ''] = /\bCC (?:status|state)\s*:\s*(\w+)/i.exec(text) ?? []
  switch (word.toLowerCase()) {
    case 'on':
      return 'on'
    case 'off':
      return 'off'
    case 'devtools':
      return 'devtools'
    default:
      return 'unknown'
  }
}

async function run(args: readonly string[]): Promise<string | undefined> {
  const running = runProcess({
    argv: ['nvidia-smi', ...args],
    env: { PATH: searchPath(), LC_ALL: 'C' },
    timeoutMs: TIMEOUT_MS,
    graceMs: 500,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  })
  const { exitCode } = await running.done
  return exitCode === 0 ? running.stdout.text() : undefined
}
