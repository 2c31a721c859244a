import { cvmdCommand, startDaemon } from './daemon.ts'
import type { WireWorkload } from './zos-deployment.ts'

/** The private address of {@link machine}. */
export const IP = '10.1.2.7'

/** As a client sends it. */
export const workload = (name: string, type: string, data: object): WireWorkload => ({
  version: 0,
  name,
  type,
  metadata: '',
  description: '',
  data,
})

export const network = workload('net', 'network', {
  ip_range: '10.1.0.0/16',
  subnet: '10.1.2.0/24',
  wireguard_private_key: 'canary-of-a-key',
  wireguard_listen_port: 3333,
  peers: [],
})
export const disk = workload('disk', 'zmount', { size: 64 * 1024 ** 2 })
export const folder = workload('shared', 'volume', { size: 64 * 1024 ** 2 })

/** Writes its word to both disks, and says it to whoever connects. */
export const machine = workload('vm', 'zmachine', {
  flist: 'docker://cvmd-test:latest',
  network: { public_ip: '', planetary: false, interfaces: [{ network: 'net', ip: IP }] },
  size: 0,
  compute_capacity: { cpu: 1, memory: 256 * 1024 ** 2 },
  mounts: [
    { name: 'disk', mountpoint: '/disk' },
    { name: 'shared', mountpoint: '/shared' },
  ],
  entrypoint:
    '/bin/sh -c "trap \'exit 0\' TERM; echo $WORD >>/disk/word; echo $WORD >>/shared/word; while :; do echo $WORD | nc -l -p 80 & wait; done"',
  env: { WORD: 'hello-canary' },
  corex: false,
  gpu: [],
})

/** All of it, in an order that is not that of provisioning. */
export const workloads = [machine, disk, folder, network]

export const UP = { vm: 'ok', disk: 'ok', shared: 'ok', net: 'ok' } as const

/** What a test may add to the configuration and the command of its node. */
export interface NodeOptions {
  /** Lines of `[plugins.zos]`. */
  readonly keys?: string
  /** Whole tables after it. */
  readonly tables?: string
  readonly args?: readonly string[]
  /** Words in front of the command, as `nsenter --net=… --`. */
  readonly inside?: readonly string[]
}

/** A daemon that is a grid node with a container engine; its registry is in the folder. */
export function startNode(
  engineSocket: string,
  at: string,
  { keys = '', tables = '', args = [], inside }: NodeOptions = {},
) {
  const [program, first] = cvmdCommand([])
  return startDaemon({
    config: `state_dir = "{folder}/state"
run_dir = "{folder}/run"
[[listen]]
unix = "{folder}/run/cvmd.sock"
[plugins.zos]
registry = "{folder}/registry.json"
engine_socket = "${engineSocket}"
mount_disks = "folder"
${keys}
[plugins.supervisor]
enabled = false
${tables}`,
    folder: at,
    args,
    ...(inside && { command: [...inside, program, ...first] }),
  })
}
