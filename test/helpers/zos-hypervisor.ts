import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import {
  type CloudHypervisorOptions,
  createCloudHypervisorDriver,
} from '../../plugins/zos/drivers/cloud-hypervisor/driver.ts'
import type { Driver, Task } from '../../plugins/zos/drivers/driver.ts'
import { vdiskPath, volumePath } from '../../plugins/zos/drivers/names.ts'
import type { Workload, ZmachineLight } from '../../plugins/zos/model.ts'
import { workloadId } from '../../plugins/zos/model.ts'
import { afterTest } from './after-test.ts'
import { freshFolder } from './daemon.ts'
import { CONTRACT, deploymentOf, resultIn, TWIN, taskOf, workloadOf } from './zos-storage-task.ts'

/** What the stand-in is told to do; see its own comment. */
export interface Control {
  readonly version?: string
  readonly start?: 'die' | 'mute'
  readonly serial?: string
  readonly acpi?: false
  readonly deaf?: true
  readonly [endpoint: `v${string}.${string}`]: {
    readonly status?: number
    readonly body?: string
    readonly do?: 'hang' | 'die' | 'cut'
  }
}

/** A place with stand-ins for the hypervisor, virtiofsd and `ip`, removed after the test. */
export interface MachineRoom {
  readonly folder: string
  readonly dataDir: string
  readonly imageDir: string
  readonly options: CloudHypervisorOptions
  driver(more?: Partial<CloudHypervisorOptions>): Driver<'zmachine'>
  control(control: Control): void
  /** `METHOD endpoint`, oldest first; what the schema refuses begins with `WRONG`. */
  requests(): readonly string[]
  /** Body of the last `vm.create`. */
  created(): Record<string, unknown>
  /** Ids of all hypervisor processes that were started, oldest first. */
  started(): readonly number[]
  /** Folders that were shared. */
  shared(): readonly string[]
  /** What `ip` was asked for. */
  commands(): readonly string[]
}

const IP = `#!/bin/sh
printf '%s\\n' "$*" >>"$(dirname "$0")/commands"
case "$*" in
  *tuntap*) ;;
  *' link show '*) echo '[{"ifname":"x","master":"bridge","flags":["UP"]}]' ;;
  *-version*) exec "$@" ;;
esac
exit 0
`

export function machineRoom(): MachineRoom {
  const folder = freshFolder()
  afterTest(async () => {
    for (const pid of pids('started').concat(pids('shared'))) end(pid)
    rmSync(folder, { recursive: true, force: true })
  })
  const path = (name: string) => join(folder, name)
  const program = (name: string, script: string) => {
    const text = `#!/bin/sh\nexec node ${resolve('test/helpers', script)} ${folder} "$@"\n`
    writeFileSync(path(name), text, { mode: 0o755 })
    return [path(name)]
  }
  const lines = (name: string) =>
    existsSync(path(name)) ? readFileSync(path(name), 'utf8').split('\n').slice(0, -1) : []
  const pids = (name: string) => lines(name).map((line) => Number(line.split(' ')[0]))
  const dataDir = path('data')
  const imageDir = path('images')
  for (const name of [dataDir, imageDir, join(dataDir, 'vdisks')]) mkdirSync(name)
  writeFileSync(join(imageDir, 'disk.raw'), Buffer.alloc(64 * 1024, 'disk'))
  writeFileSync(path('firmware'), 'firmware')
  writeFileSync(path('ip'), IP, { mode: 0o755 })
  writeFileSync(path('kvm'), '')
  const options: CloudHypervisorOptions = {
    folder: path('machines'),
    runFolder: path('run'),
    dataDir,
    imageDir,
    payload: { firmware: path('firmware') },
    hypervisor: program('cloud-hypervisor', 'zos-hypervisor-stand-in.mjs'),
    virtiofsd: program('virtiofsd', 'zos-virtiofsd-stand-in.mjs'),
    kvmPath: path('kvm'),
    prefix: [path('ip')],
    graceMs: 3000,
    watchMs: 100,
    quickMs: 3000,
  }
  return {
    folder,
    dataDir,
    imageDir,
    options,
    driver: (more = {}) => createCloudHypervisorDriver('zmachine', { ...options, ...more }),
    control: (control) => writeFileSync(path('control.json'), JSON.stringify(control)),
    requests: () => lines('requests').map((line) => line.replace(/^((?!WRONG)\S+ \S+).*/, '$1')),
    created: () => {
      const [body = '{}'] = lines('requests')
        .filter((line) => line.startsWith('PUT vm.create '))
        .map((line) => line.slice('PUT vm.create '.length))
        .slice(-1)
      return JSON.parse(body)
    },
    started: () => pids('started'),
    shared: () => lines('shared').map((line) => line.split(' ')[1] ?? ''),
    commands: () => lines('commands'),
  }
}

/** Kills a process of the test's own that is still there. */
export function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {}
}

/** Whether a process runs: one that is defunct does not. */
export function runs(pid: number): boolean {
  if (!existsSync(`/proc/${pid}/stat`)) return false
  return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
}

/** A machine on a network `net`, with a disk and a volume when their names are mounted. */
export function machineTask(
  room: Pick<MachineRoom, 'dataDir'>,
  data: Partial<ZmachineLight> & { readonly publicIp?: string } = {},
  more: Partial<Task<'zmachine'>> = {},
): Task<'zmachine'> {
  const { publicIp = '', network, ...rest } = data
  const workload = workloadOf('zmachine', 'vm_1', {
    flist: 'file:///disk.raw',
    size: 0n,
    cpu: 2,
    memory: 512n * 1024n * 1024n,
    mounts: [],
    entrypoint: '',
    env: new Map(),
    corex: false,
    gpu: [],
    network: {
      publicIp,
      planetary: false,
      mycelium: undefined,
      interfaces: [{ network: 'net', ip: '10.1.2.5' }],
      ...network,
    },
    ...rest,
  })
  const others: Workload[] = [
    workloadOf('zmount', 'disk', { size: 1024n }),
    workloadOf('volume', 'files', { size: 1024n }),
    workloadOf('ip', 'address', { v4: true, v6: false }),
  ]
  const idOf = (name: string) => workloadId(TWIN, CONTRACT, name)
  if (!existsSync(vdiskPath(room.dataDir, idOf('disk')))) {
    writeFileSync(vdiskPath(room.dataDir, idOf('disk')), '')
    truncateSync(vdiskPath(room.dataDir, idOf('disk')), 1024 * 1024)
    mkdirSync(volumePath(room.dataDir, idOf('files')), { recursive: true })
  }
  const address = JSON.stringify({ ip: '198.51.100.7/24', ip6: '', gateway: '198.51.100.1' })
  const shared = workloadOf('network', 'net', {
    ipRange: '10.1.0.0/16',
    subnet: '10.1.2.0/24',
    wireguardPrivateKey: '',
    wireguardListenPort: 0,
    peers: [],
    mycelium: undefined,
  })
  return taskOf(workload, {
    deployment: deploymentOf([workload, ...others]),
    resultOf: (name) => resultIn('ok', name === 'address' ? address : 'null'),
    network: (name) => (name === 'net' ? { id: idOf('net'), workload: shared } : undefined),
    ...more,
  })
}

/** Waits until it holds; fails the test after 20 s. */
export async function eventually(what: string, test: () => boolean): Promise<void> {
  const latest = performance.now() + 20_000
  while (!test()) {
    if (performance.now() > latest) throw new Error(`not within 20 s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
