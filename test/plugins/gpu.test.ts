import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import gpu from '../../plugins/gpu/index.ts'
import { FileTransport } from '../../src/device/file-transport.ts'
import type { GpuError, Gpus } from '../../src/gpu/gpus.ts'
import { MachineGpus } from '../../src/gpu/machine-gpus.ts'
import { parseConfidential, parseNvidia } from '../../src/gpu/nvidia-smi.ts'
import { namesIn } from '../../src/gpu/pci-ids.ts'
import { gpusBelow } from '../helpers/gpus.ts'
import { type PciDevice, SMALL_PCI_IDS, writePciIds, writePciTree } from '../helpers/pci-tree.ts'
import { hostPlugin } from '../helpers/plugin-host.ts'
import { vectors } from '../helpers/vectors.ts'

const GiB = 1024 ** 3

/** A desktop: an integrated GPU, one of AMD with its driver, and one of NVIDIA given to a guest. */
const DESKTOP: readonly PciDevice[] = [
  {
    slot: '0000:00:02.0',
    class: '0x030000',
    vendor: '0x8086',
    device: '0x3e9b',
    driver: 'i915',
  },
  { slot: '0000:00:01.0', class: '0x030000', vendor: '0x1002', device: '0x15d8' },
  { slot: '0000:05:00.0', class: '0x020000', vendor: '0x10de', device: '0x1e30' },
  {
    slot: '0000:28:00.0',
    class: '0x030000',
    vendor: '0x1002',
    device: '0x731f',
    subsystem_vendor: '0x1da2',
    subsystem_device: '0xe411',
    driver: 'amdgpu',
    windows: [256 * 1024 ** 2, 2 * 1024 ** 2],
    files: {
      mem_info_vram_total: String(6 * GiB),
      numa_node: '-1',
      'hwmon/hwmon3/temp1_input': '41500',
    },
  },
  {
    slot: '0000:0e:00.0',
    class: '0x030000',
    vendor: '0x10de',
    device: '0x1e30',
    subsystem_vendor: '0x10de',
    subsystem_device: '0x129e',
    driver: 'vfio-pci',
    windows: [16 * 1024 ** 2, 256 * 1024 ** 2, 32 * 1024 ** 2],
    files: { numa_node: '1' },
  },
]

/** A server of a data centre: its GPUs have no display output. */
const SERVER: readonly PciDevice[] = ['0000:41:00.0', '0000:61:00.0'].map((slot) => ({
  slot,
  class: '0x030200',
  vendor: '0x10de',
  device: '0x2330',
  subsystem_vendor: '0x10de',
  subsystem_device: '0x16c1',
  driver: 'nvidia',
  windows: [64 * 1024 ** 2, 128 * GiB],
}))

function tree(t: TestContext, devices: readonly PciDevice[], ids?: string): string {
  const root = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  t.after(() => rmSync(root, { recursive: true }))
  writePciTree(root, devices)
  if (ids !== undefined) writePciIds(root, ids)
  return root
}

async function shown(t: TestContext, gpus: Gpus, config = {}) {
  const host = hostPlugin(gpu, config, { services: { gpus } })
  t.after(() => host.stop())
  await host.start()
  const answer = await host.request('/cvmd/gpu')
  assert.equal(answer.status, 200)
  return (await answer.json()) as Record<string, unknown>[]
}

test('a desktop: what is not integrated, with names, memory, driver and temperature', async (t) => {
  const found = await shown(t, gpusBelow(tree(t, DESKTOP, SMALL_PCI_IDS)))
  assert.deepEqual(found, [
    {
      id: '0000:0e:00.0/10de/1e30',
      slot: '0000:0e:00.0',
      class: '030000',
      vendor: 'NVIDIA Corporation',
      device: 'Quadro RTX 8000',
      memory_bytes: 256 * 1024 ** 2,
      memory_from: 'window',
      driver: 'vfio-pci',
      driver_version: '',
      numa_node: 1,
      temperature_celsius: null,
      confidential_computing: 'unknown',
      used_by: null,
    },
    {
      id: '0000:28:00.0/1002/731f',
      slot: '0000:28:00.0',
      class: '030000',
      vendor: 'Advanced Micro Devices, Inc. [AMD/ATI]',
      device: 'Radeon RX 5600 XT',
      memory_bytes: 6 * GiB,
      memory_from: 'driver',
      driver: 'amdgpu',
      driver_version: '',
      numa_node: -1,
      temperature_celsius: 41.5,
      confidential_computing: 'unknown',
      used_by: null,
    },
  ])
})

test('GPUs of data centres are listed, but not as the reference lists', async (t) => {
  const gpus = gpusBelow(tree(t, SERVER, SMALL_PCI_IDS))
  const found = await shown(t, gpus)
  assert.deepEqual(
    found.map(({ id, device, memory_bytes }) => [id, device, memory_bytes]),
    [
      ['0000:41:00.0/10de/2330', 'GH100 [H100 SXM5 80GB]', 128 * GiB],
      ['0000:61:00.0/10de/2330', 'GH100 [H100 SXM5 80GB]', 128 * GiB],
    ],
  )
  assert.deepEqual(await shown(t, gpus, { classes: 'reference' }), [])
})

test('without a database, or a device it does not know, names are unknown', async (t) => {
  for (const ids of [undefined, '10de  NVIDIA Corporation\n\tffff  Other\n']) {
    const [first] = await gpusBelow(tree(t, SERVER, ids)).list()
    assert.deepEqual([first?.vendor, first?.device], ['unknown', 'unknown'])
  }
})

test('a machine without PCI, or with files that make no sense, lists what it can', async (t) => {
  assert.deepEqual(await gpusBelow('/nonexistent').list(), [])
  const strange = tree(t, [
    { slot: '0000:01:00.0', class: 'nonsense', vendor: '0x10de', device: '0x2330' },
    { slot: '0000:02:00.0', class: '0x030200', vendor: '10de', device: '0x2330' },
    {
      slot: '0000:03:00.0',
      class: '0x030200',
      vendor: '0x10de',
      device: '0x2330',
      files: { resource: 'a b c\n0x1 0x', numa_node: 'x', mem_info_vram_total: '-3' },
    },
  ])
  const [only, ...more] = await gpusBelow(strange).list()
  assert.deepEqual(more, [])
  assert.deepEqual([only?.slot, only?.memory, only?.memoryFrom], ['0000:03:00.0', 0, 'unknown'])
})

test('one that is taken is not given to another, all or nothing, and shows whose it is', async (t) => {
  const gpus = gpusBelow(tree(t, SERVER))
  const [a = '', b = ''] = (await gpus.list()).map(({ id }) => id)
  const first = { owner: 'zos', workload: '1-2-vm', contract: 2n ** 60n }
  const second = { owner: 'zos', workload: '1-3-vm', contract: 3n }
  await gpus.claim([a], first)
  await gpus.claim([a], first)
  await assert.rejects(gpus.claim([b, a], second), code('GPU_TAKEN'))
  assert.equal(gpus.holder(b), undefined, 'nothing was taken with what was refused')
  await assert.rejects(gpus.claim(['0000:99:00.0/10de/2330'], second), code('GPU_UNKNOWN'))
  assert.deepEqual(
    (await shown(t, gpus)).map(({ used_by }) => used_by),
    [{ plugin: 'zos', workload: '1-2-vm', contract: String(2n ** 60n) }, null],
  )
  gpus.release('zos', '1-2-vm')
  await gpus.claim([a, b], second)
})

function code(expected: GpuError['code']) {
  return (error: unknown) => (error as GpuError).code === expected
}

test('what nvidia-smi prints', () => {
  const printed = [
    '00000000:41:00.0, GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f, 81559, 31, 550.54.15, NVIDIA H100 80GB HBM3',
    '00000001:61:00.0, [N/A], [N/A], [N/A], 550.54.15, NVIDIA H100, special',
    'No devices were found',
  ].join('\n')
  assert.deepEqual(
    [...parseNvidia(printed)],
    [
      [
        '0000:41:00.0',
        {
          uuid: 'GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f',
          memory: 81559 * 1024 ** 2,
          temperature: 31,
          driverVersion: '550.54.15',
          name: 'NVIDIA H100 80GB HBM3',
        },
      ],
      [
        '0001:61:00.0',
        {
          uuid: '',
          memory: undefined,
          temperature: undefined,
          driverVersion: '550.54.15',
          name: 'NVIDIA H100, special',
        },
      ],
    ],
  )
  assert.equal(parseConfidential('CC status: ON\n'), 'on')
  assert.equal(parseConfidential('    CC State                   : OFF\n'), 'off')
  assert.equal(parseConfidential('CC status: DEVTOOLS'), 'devtools')
  assert.equal(parseConfidential('No devices'), 'unknown')
})

test('the driver is asked through PATH, and may be missing or broken', async (t) => {
  const folder = tree(t, SERVER, SMALL_PCI_IDS)
  const program = join(folder, 'nvidia-smi')
  const before = process.env.PATH
  t.after(() => {
    process.env.PATH = before
  })
  process.env.PATH = `${folder}:${before}`
  // The tree is another machine's, so the GPUs of this one are asked by hand.
  const states = async (script: string) => {
    writeFileSync(program, `#!/bin/sh\n${script}\n`)
    chmodSync(program, 0o755)
    const gpus = new MachineGpus({
      transport: new FileTransport(folder),
      root: '/',
    })
    return await gpus.states()
  }
  const [first] = await states(
    'case $1 in conf*) echo "CC status: ON";; *) echo "00000000:41:00.0, GPU-1, 81559, 31, 550.54.15, H100";; esac',
  )
  assert.deepEqual(
    [first?.memory, first?.memoryFrom, first?.temperature, first?.confidentialComputing],
    [81559 * 1024 ** 2, 'driver', 31, 'on'],
  )
  const [second] = await states('echo broken >&2; exit 9')
  assert.deepEqual(
    [second?.memory, second?.memoryFrom, second?.driverVersion],
    [128 * GiB, 'window', ''],
  )
})

test('every vector: listed as the reference does, with its names', async (t) => {
  const folder = vectors('zos')
  if (!folder) return t.skip('the shared vectors are not there')
  const devices = JSON.parse(readFileSync(join(folder, 'pci.json'), 'utf8')) as (PciDevice & {
    listed: boolean
    id?: string
    vendor_name?: string
    device_name?: string
  })[]
  for (const { listed, id, vendor_name, device_name, ...device } of devices) {
    const found = await gpusBelow(tree(t, [device], SMALL_PCI_IDS)).list('reference')
    assert.deepEqual(
      found.map((one) => [one.id, one.vendor, one.device]),
      listed ? [[id, vendor_name, device_name]] : [],
    )
  }
})

test('any text is a database, and any name in it comes back', () => {
  const numbers = { vendor: '10de', device: '2330', subsystemVendor: '', subsystemDevice: '' }
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.equal(namesIn(text, [numbers]).length, 1)
    }),
  )
  fc.assert(
    fc.property(fc.stringMatching(/^[!-~]([ -~]{0,40}[!-~])?$/), (name) => {
      const text = `10de  ${name}\n\t2330  ${name}\n`
      assert.deepEqual(namesIn(text, [numbers]), [{ vendor: name, device: name }])
    }),
  )
})
