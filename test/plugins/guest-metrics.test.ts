import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemMetrics } from '../../plugins/guest/system-metrics.ts'
import { parseMounts, parseOsRelease, systemInfo } from '../../src/device/system-info.ts'

const SAMPLE = {
  osName: 'Name "quoted" \\ and\nbroken',
  osVersion: '12',
  kernelVersion: '6.12.0',
  cpuModel: 'x',
  cpuCount: 2,
  memory: { total: 4096, available: 3072, free: 1024 },
  swap: { total: 2048, free: 1536 },
  uptime: 77,
  load: [0.5, 1.006, 12],
  disks: [
    { name: '/dev/vda', mountPoint: '/', total: 3000, free: 1000 },
    { name: '/dev/vdb', mountPoint: '/empty', total: 0, free: 0 },
  ],
} as const

test("figures have dstack's names, and texts cannot break out of their labels", () => {
  const lines = systemMetrics(SAMPLE).split('\n')
  for (const line of [
    'system_os_name{value="Name \\"quoted\\" \\\\ and\\nbroken"} 1',
    'system_os_version{value="12"} 1',
    'system_num_cpus 2',
    'system_memory_used 1024',
    'system_swap_used 512',
    'system_uptime 77',
    'system_load_average_1m 50',
    'system_load_average_5m 101',
    'system_load_average_15m 1200',
    'disk_used_size{name="/dev/vda",mount_point="/"} 2000',
    'disk_usage_percentage{name="/dev/vda",mount_point="/"} 66.67',
    'disk_usage_percentage{name="/dev/vdb",mount_point="/empty"} 0',
  ]) {
    assert.ok(lines.includes(line), line)
  }
})

test('os-release is read in all its quotings', () => {
  const text = `# comment\nNAME="A \\"b\\" \\$c"\nID=debian\nVERSION_ID='1=2'\n\nlower=x\nNO\n`
  assert.deepEqual(
    [...parseOsRelease(text)],
    [
      ['NAME', 'A "b" $c'],
      ['ID', 'debian'],
      ['VERSION_ID', '1=2'],
    ],
  )
})

test('of mounts the block devices are taken, each once', () => {
  const text = [
    'proc /proc proc rw 0 0',
    '/dev/vda1 / ext4 rw 0 0',
    '/dev/vda1 /var/lib ext4 rw 0 0',
    '/dev/mapper/a\\040b /mnt/with\\040space\\134 ext4 rw 0 0',
    '/dev/x',
    '',
  ].join('\n')
  assert.deepEqual(
    [...parseMounts(text)],
    [
      ['/dev/vda1', '/'],
      ['/dev/mapper/a b', '/mnt/with space\\'],
    ],
  )
  const many = Array.from({ length: 100 }, (_, i) => `/dev/d${i} /mnt/${i} ext4 rw 0 0`)
  assert.equal(parseMounts(many.join('\n')).size, 64)
})

test('the machine the test runs on has figures', async () => {
  const info = await systemInfo()
  assert.ok(info.cpuCount > 0 && info.memory.total > 0 && info.uptime > 0)
  assert.ok(info.memory.available <= info.memory.total)
})
