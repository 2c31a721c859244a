import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { FileTransport } from '../src/device/file-transport.ts'
import type { Transport } from '../src/device/transport.ts'
import { runtime } from '../src/runtime.ts'
import { lacks } from './helpers/counterpart.ts'
import { machineTree, tmpfs, unmount } from './native/test-addon.ts'
import { checkTransport, fails } from './native/transport-contract.ts'

test('file calls below a root do what a transport does', async () => {
  const tree = machineTree()
  const transport = new FileTransport(tree.root)
  assert.equal(transport.kind, 'files')
  await checkTransport(transport, tree)
  tree.remove()
})

test('there is no ioctl and no lock', async () => {
  const transport: Transport = new FileTransport('/nowhere')
  await fails(transport.ioctl('/dev/nsm', 'nsm', new Uint8Array(1)), 'ENOTSUP', 'ioctl', '/dev/nsm')
  await fails(transport.lock('/x'), 'ENOTSUP', 'lock', '/x')
})

test('what the runtime itself refuses has an errno too', async () => {
  const transport = new FileTransport('/')
  await fails(transport.read('/a\0b', 1), 'EINVAL', 'read', '/a\0b')
})

test('a write of which only a part fits is an error', async (t) => {
  const tree = machineTree()
  t.after(() => tree.remove())
  tree.mkdir('/full')
  const disk = join(tree.root, 'full')
  const mounted = tmpfs(disk, 'size=4k')
  if (lacks(t, 'tmpfs', mounted)) return
  try {
    tree.put('/full/file')
    const write = new FileTransport(tree.root).write('/full/file', new Uint8Array(8192))
    // Deno goes on with what is left, which has no place either.
    await fails(write, runtime === 'deno' ? 'ENOSPC' : 'EIO', 'write', '/full/file')
    assert.equal(statSync(join(disk, 'file')).size, 4096)
  } finally {
    unmount(disk)
  }
})
