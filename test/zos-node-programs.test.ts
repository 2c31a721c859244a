import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseDmi } from '../plugins/zos/node/dmi.ts'
import { machineRoot, nodeFacts, programs } from './helpers/zos-node.ts'

const AND_SYSTEM = ':/usr/bin:/bin'

const DMI = `cat <<'END'
# dmidecode 3.4

Handle 0x0001, DMI type 1, 27 bytes
System Information
	Manufacturer: ACME
	<TRUNCATED>
END
echo "/dev/mem: not really" >&2`

test('DMI comes from dmidecode, whatever it says on stderr', async (t) => {
  const root = machineRoot(t, 'server')
  const path = programs(t, { dmidecode: DMI }) + AND_SYSTEM
  const { facts, log } = nodeFacts(t, { root, path })
  const properties = { Manufacturer: { value: 'ACME' } }
  assert.deepEqual((await facts.dmi()).sections, [
    {
      handleline: 'Handle 0x0001, DMI type 1, 27 bytes',
      typestr: 'System',
      typenum: 1,
      subsections: [{ title: 'System Information', properties }],
    },
  ])
  assert.deepEqual(log, [])
  const strict = nodeFacts(t, { root, path, strictDmi: true })
  await assert.rejects(strict.facts.dmi(), {
    name: 'ZosError',
    message: "couldn't find key value pair on the line \t<TRUNCATED>",
  })
})

const NO_DMI = [
  ['is missing', undefined, '"dmidecode" is not installed'],
  ['may not read', 'echo "/dev/mem: Permission denied" >&2; exit 1', '"dmidecode" ended with exit'],
  ['finds no table', 'echo "# dmidecode 3.4"', '"dmidecode" found nothing'],
  ['writes without end', 'exec yes', '"dmidecode" wrote over 1048576 bytes'],
] as const

for (const [what, script, reason] of NO_DMI) {
  test(`DMI comes from the kernel where dmidecode ${what}`, async (t) => {
    const root = machineRoot(t, 'server')
    const path = programs(t, script === undefined ? {} : { dmidecode: script }) + AND_SYSTEM
    const options = { root, path: script === undefined ? programs(t, {}) : path }
    const { facts, log } = nodeFacts(t, options)
    const { tooling, sections } = await facts.dmi()
    assert.equal(tooling.aggregator, '/sys/class/dmi/id')
    const types = sections.map(({ typenum, typestr }) => [typenum, typestr])
    assert.deepEqual(types, [
      [0, 'BIOS'],
      [1, 'System'],
      [2, 'Baseboard'],
      [3, 'Chassis'],
    ])
    assert.deepEqual(sections[1]?.subsections, [
      {
        title: 'System Information',
        properties: {
          Manufacturer: { value: 'Supermicro' },
          'Product Name': { value: 'SYS-1028R-WC1R' },
          Version: { value: '0123456789' },
        },
      },
    ])
    assert.equal(log.length, 1)
    assert.ok(log[0]?.includes(reason), log[0])
    if (what === 'finds no table') return
    const strict = nodeFacts(t, { ...options, strictDmi: true })
    await assert.rejects(strict.facts.dmi(), { name: 'ZosError', message: /^Cannot read DMI: / })
  })
}

const HYPERVISORS = [
  ['its first word', 'printf "  kvm\\nkvm-something\\n"', 'kvm'],
  ['nothing on bare metal', 'true', ''],
  ['stdout alone', 'echo "virt-what: warning" >&2; echo xen', 'xen'],
] as const

for (const [what, script, expected] of HYPERVISORS) {
  test(`hypervisor: what virt-what says: ${what}`, async (t) => {
    const path = programs(t, { 'virt-what': script }) + AND_SYSTEM
    const { facts, log } = nodeFacts(t, { root: machineRoot(t, 'cloud'), path })
    assert.equal(await facts.hypervisor(), expected)
    assert.deepEqual(log, [])
  })
}

const GUESSED = [
  ['server', ''],
  ['cloud', 'aws'],
  ['container', ''],
] as const

for (const [machine, expected] of GUESSED) {
  test(`hypervisor: without virt-what, a ${machine} has "${expected}"`, async (t) => {
    const script = 'echo kvm; echo "virt-what: this script must be run as root" >&2; exit 1'
    for (const scripts of [{}, { 'virt-what': script }]) {
      const path = programs(t, scripts)
      const { facts, log } = nodeFacts(t, { root: machineRoot(t, machine), path })
      assert.equal(await facts.hypervisor(), expected)
      assert.match(log.join('\n'), /^The hypervisor is told by CPU flag and vendor: "virt-what"/)
    }
  })
}

test('version: of the daemon, and of zinit where there is one', async (t) => {
  const zinit = async (script?: string) => {
    const path = programs(t, script === undefined ? {} : { zinit: script }) + AND_SYSTEM
    const { facts } = nodeFacts(t, { path })
    const { zos, zinit } = await facts.version()
    assert.equal(zos, '1.2.3')
    return zinit
  }
  assert.equal(await zinit('test "$1" = -V && echo "zinit  v0.2.25 "'), 'v0.2.25')
  assert.equal(await zinit('echo zinit'), '')
  assert.equal(await zinit('echo broken >&2; exit 3'), '"zinit" ended with exit status 3: broken')
  assert.equal(await zinit(), '')
})

test('WireGuard ports: fixed ones, those of workloads and of other interfaces, each once', async (t) => {
  const script =
    'test "$*" = "show all listen-port" && printf "wg0\\t51820\\nwg1\\t0\\nwg2\\t7000\\n"'
  const path = programs(t, { wg: script }) + AND_SYSTEM
  const { facts, log } = nodeFacts(t, { path, workloadPorts: () => [7000, 1024, 0, 70_000] })
  const ports = [80, 300, 443, 1024, 7000, 8082, 9651, 9943, 9944, 9945, 51_820]
  assert.deepEqual(await facts.wireguardPorts(), ports)
  assert.deepEqual(log, [])
})

test('WireGuard ports: a tool that may not tell leaves those that are known', async (t) => {
  const path = programs(t, { wg: 'echo "Operation not permitted" >&2; exit 1' })
  const { facts, log } = nodeFacts(t, { path, workloadPorts: () => [1024] })
  const ports = [80, 300, 443, 1024, 8082, 9651, 9943, 9944, 9945]
  assert.deepEqual(await facts.wireguardPorts(), ports)
  assert.deepEqual(await facts.wireguardPorts(), ports)
  assert.equal(log.length, 1)
  const none = nodeFacts(t, { path: programs(t, {}) })
  assert.equal((await none.facts.wireguardPorts()).length, 8)
  assert.deepEqual(none.log, [])
})

test('many questions at one time start a program once, the next one again', async (t) => {
  const path = programs(t, { 'virt-what': 'echo x >> "$0.runs"; sleep 0.2; echo kvm' })
  const { facts } = nodeFacts(t, { path: path + AND_SYSTEM })
  const runs = () => readFileSync(join(path, 'virt-what.runs'), 'utf8').length / 2
  const answers = await Promise.all(Array.from({ length: 50 }, () => facts.hypervisor()))
  assert.deepEqual(new Set(answers), new Set(['kvm']))
  assert.equal(runs(), 1)
  await facts.hypervisor()
  assert.equal(runs(), 2)
})

test('what the kernel tells of DMI has the names of dmidecode', async (t) => {
  const { facts } = nodeFacts(t, { root: machineRoot(t, 'server'), path: programs(t, {}) })
  const lines = (await facts.dmi()).sections.flatMap(({ handleline, subsections }) => [
    handleline,
    ...subsections.flatMap(({ title, properties = {} }) => [
      title,
      ...Object.entries(properties).map(([key, { value }]) => `\t${key}: ${value}`),
    ]),
    '',
  ])
  const again = parseDmi(lines.join('\n'), { strict: true })
  assert.deepEqual(again.sections, (await facts.dmi()).sections)
})
