import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Task } from '../../plugins/zos/drivers/driver.ts'
import type { DataOf, NetworkLight, NetworkPeer, Workload } from '../../plugins/zos/model.ts'
import { workloadId } from '../../plugins/zos/model.ts'
import { afterTest } from './after-test.ts'
import { installed } from './counterpart.ts'
import { deploymentOf, taskOf, workloadOf } from './zos-storage-task.ts'

/** Runs a program to its end; its output. Fails the test unless its exit status is 0. */
export function sh(...argv: string[]): string {
  const [program = '', ...args] = argv
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', timeout: 30_000 })
  assert.equal(status, 0, `${argv.join(' ')}: ${stderr}`)
  return stdout
}

/** Whether a program ends well. */
export function succeeds(...argv: string[]): boolean {
  const [program = '', ...args] = argv
  return spawnSync(program, args, { timeout: 30_000 }).status === 0
}

/** Whether this process may make network namespaces and bridges. */
export function makesNetworks(): boolean {
  const name = `cvmd-${randomBytes(4).toString('hex')}`
  if (!succeeds('ip', 'netns', 'add', name)) return false
  const made = succeeds('ip', '-n', name, 'link', 'add', 'x', 'type', 'bridge')
  sh('ip', 'netns', 'del', name)
  return made
}

/** Whether the kernel, or a program in its place, does WireGuard. */
export function hasWireguard(): boolean {
  const name = `cv-${randomBytes(4).toString('hex')}`
  if (!installed('wg')) return false
  if (!succeeds('ip', 'link', 'add', 'dev', name, 'type', 'wireguard'))
    return installed('wireguard-go')
  sh('ip', 'link', 'del', 'dev', name)
  return true
}

/** A network namespace of the test's own that stands for a host. */
export interface HostNamespace {
  readonly name: string
  /** In front of a command to run it there. */
  readonly prefix: readonly string[]
  /** Interfaces there but `lo`, sorted. */
  links(): readonly string[]
  run(...argv: string[]): string
}

/** Makes one, and removes it after the test with everything in it. */
export function hostNamespace(): HostNamespace {
  const name = `cvmd-h-${randomBytes(4).toString('hex')}`
  sh('ip', 'netns', 'add', name)
  afterTest(() => sh('ip', 'netns', 'del', name))
  // Not `ip netns exec`: what is mounted under /run/netns in there would be lost.
  const prefix = ['nsenter', `--net=/run/netns/${name}`]
  const run = (...argv: string[]) => sh(...prefix, ...argv)
  run('ip', 'link', 'set', 'dev', 'lo', 'up')
  const links = () => linkNames(run('ip', '-j', 'link'))
  return { name, prefix, run, links }
}

/** Connects two hosts: the first is 192.0.2.1, the second 192.0.2.2. */
export function wire(one: HostNamespace, two: HostNamespace): void {
  const peer = ['type', 'veth', 'peer', 'name', 'wan', 'netns', two.name]
  one.run('ip', 'link', 'add', 'dev', 'wan', ...peer)
  for (const [index, host] of [one, two].entries()) {
    host.run('ip', 'addr', 'add', `192.0.2.${index + 1}/24`, 'dev', 'wan')
    host.run('ip', 'link', 'set', 'dev', 'wan', 'up')
  }
}

function linkNames(text: string): readonly string[] {
  const rows: { ifname: string }[] = JSON.parse(text)
  return rows
    .map((row) => row.ifname)
    .filter((name) => name !== 'lo')
    .sort()
}

/** A machine on a bridge: a namespace with an address in the subnet. */
export interface Neighbour {
  readonly name: string
  /** Whether a TCP connection to the address answers `here`; waits 8 s, or as long as it says. */
  reaches(address: string, ms?: number): boolean
  /** Answers `here` on TCP port 7, until the test ends. */
  serve(): Promise<void>
}

/** @param address With prefix; the gateway is the first of its /24. */
export function neighbour(host: HostNamespace, bridge: string, address: string): Neighbour {
  const id = randomBytes(4).toString('hex')
  const name = `cvmd-m-${id}`
  sh('ip', 'netns', 'add', name)
  afterTest(() => sh('ip', 'netns', 'del', name))
  host.run(
    'ip',
    'link',
    'add',
    'dev',
    `t${id}`,
    'type',
    'veth',
    'peer',
    'name',
    'eth0',
    'netns',
    name,
  )
  host.run('ip', 'link', 'set', 'dev', `t${id}`, 'master', bridge, 'up')
  sh('ip', '-n', name, 'addr', 'add', address, 'dev', 'eth0')
  sh('ip', '-n', name, 'link', 'set', 'dev', 'eth0', 'up')
  const gateway = address.replace(/\.\d+\/\d+$/, '.1')
  sh('ip', '-n', name, 'route', 'add', 'default', 'via', gateway)
  return machineIn(name)
}

/** Talks and listens in a namespace. */
export function machineIn(name: string): Neighbour {
  return {
    name,
    reaches: (address, ms = 8000) =>
      succeeds('ip', 'netns', 'exec', name, 'node', '-e', ASK, address, String(ms)),
    serve: () =>
      new Promise((resolve, reject) => {
        const child = spawn('ip', ['netns', 'exec', name, 'node', '-e', ANSWER], {
          stdio: ['ignore', 'pipe', 'inherit'],
        })
        afterTest(() => child.kill('SIGKILL'))
        child.once('error', reject)
        child.once('exit', () => reject(new Error('the server ended')))
        child.stdout.once('data', () => resolve())
      }),
  }
}

const ASK = `
  const socket = require('net').connect(7, process.argv[1])
  setTimeout(() => process.exit(2), Number(process.argv[2]))
  socket.on('error', () => process.exit(1))
  socket.on('data', (data) => process.exit(String(data) === 'here' ? 0 : 3))`
const ANSWER = `
  require('net').createServer((socket) => socket.on('error', () => {}).end('here'))
    .listen(7, () => console.log('ready'))`

/** A program in front of the commands that writes each down, and fails those that contain a word. */
export interface Recorder {
  readonly prefix: readonly string[]
  commands(): readonly string[]
  /** Commands with one of these words fail from now on. */
  refuse(...words: readonly string[]): void
  /** The n-th command from now, and all after it, fail; undefined: none. */
  failFrom(count: number | undefined): void
}

export function recorder(folder: string, prefix: readonly string[]): Recorder {
  const paths = ['commands', 'refused', 'left'].map((name) => join(folder, name))
  const [log = '', refused = '', left = ''] = paths
  const script = join(folder, 'record')
  writeFileSync(script, RECORD, { mode: 0o755 })
  return {
    prefix: [script, log, refused, left, ...prefix],
    commands: () => (existsSync(log) ? readFileSync(log, 'utf8').split('\n').slice(0, -1) : []),
    refuse: (...words) => writeFileSync(refused, words.map((word) => `${word}\n`).join('')),
    failFrom: (count) => writeFileSync(left, count === undefined ? '' : '.'.repeat(count)),
  }
}

const RECORD = `#!/bin/sh
log=$1 refused=$2 left=$3
shift 3
printf '%s\\n' "$*" >>"$log"
if [ -s "$refused" ] && printf '%s\\n' "$*" | grep -qFf "$refused"; then
  echo 'Error: Unknown device type.' >&2
  exit 2
fi
if [ -e "$left" ]; then
  count=$(cat "$left")
  [ "$count" = x ] && { echo 'broken' >&2; exit 2; }
  [ -n "$count" ] && { rest=\${count#.}; printf %s "\${rest:-x}" >"$left"; }
fi
exec "$@"
`

let networks = 0

/** A network of a twin that nobody else has, unless it is named in `more`. */
export function networkTask<T extends 'network' | 'network-light'>(
  type: T,
  subnet: string,
  data: Partial<NetworkLight> = {},
  more: Partial<Task<T>> & { readonly twin?: number } = {},
): Task<T> {
  networks += 1
  const { twin = TWIN + networks, ...rest } = more
  const whole: NetworkLight = {
    ipRange: subnet.replace(/\.\d+\.\d+\/\d+$/, '.0.0/16'),
    subnet,
    wireguardPrivateKey: KEYS[0].secret,
    wireguardListenPort: 0,
    peers: [],
    mycelium: { hexKey: '', peers: [] },
    ...data,
  }
  const workload = workloadOf<T>(type, 'net', whole as DataOf[T])
  const deployment = { ...deploymentOf([workload as Workload]), twinId: twin }
  const id = workloadId(twin, deployment.contractId, workload.name)
  return taskOf<T>(workload, { id, deployment, ...(rest as Partial<Task<T>>) })
}

const TWIN = 1_000_000 + Math.floor(Math.random() * 1e9)
/** Key pairs, made for the tests. */
export const KEYS = [
  {
    secret: 'wEx/O5biBR13sUweBK3lkDF1IWLxuW16lHJUdQ8IXms=',
    public: 'z6IUbrR7UABmpEYog2XbDny8hNR0vuFVvXUv/HYUPjo=',
  },
  {
    secret: 'aPinLpy67N9oypyApmI6SqzIkrCJLQHxH0T8eEzs3GA=',
    public: '/cbO3Uu7FC+ehyk+AnAI6DFxcdpi3HFFE2n2O46qAT4=',
  },
] as const

export function peer(publicKey: string, allowedIps: readonly string[], endpoint = ''): NetworkPeer {
  return { subnet: allowedIps[0] ?? '', wireguardPublicKey: publicKey, allowedIps, endpoint }
}
