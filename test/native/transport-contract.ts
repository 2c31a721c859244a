import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { DeviceError, type Transport } from '../../src/device/transport.ts'
import { REGISTERS, type Tree, TSM } from './test-addon.ts'

/** Checks that a promise is rejected with a DeviceError of this errno, operation and path. */
export async function fails(
  promise: Promise<unknown>,
  code: string,
  operation: string,
  path: string,
): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof DeviceError, String(error))
    assert.deepEqual(
      { code: error.code, operation: error.operation, path: error.path },
      { code, operation, path },
    )
    assert.ok(error.message.startsWith(`Cannot ${operation} "${path}": ${code}`), error.message)
    return true
  })
}

/** What every transport over real files does, on a machine made by `machineTree`. */
export async function checkTransport(transport: Transport, tree: Tree): Promise<void> {
  const entry = `${TSM}/cvmd-1`
  await looks(transport, tree, entry)
  await reads(transport, tree, entry)
  await writes(transport, tree, entry)
}

async function looks(transport: Transport, tree: Tree, entry: string): Promise<void> {
  assert.equal(await transport.stat(TSM), 'directory')
  assert.equal(await transport.stat('/proc/meminfo'), 'file')
  assert.equal(await transport.mkdir(entry), undefined)
  await fails(transport.mkdir(entry), 'EEXIST', 'mkdir', entry)
  mkdirSync(join(tree.root, TSM, 'another'))
  assert.deepEqual(await transport.list(TSM), ['another', 'cvmd-1'])
  await transport.rmdir(`${TSM}/another`)
  await fails(transport.rmdir(`${TSM}/another`), 'ENOENT', 'rmdir', `${TSM}/another`)
  await fails(transport.stat(`${TSM}/gone`), 'ENOENT', 'stat', `${TSM}/gone`)
  await fails(transport.list(`${TSM}/gone`), 'ENOENT', 'list', `${TSM}/gone`)
  tree.put(`${TSM}/file`)
  await fails(transport.list(`${TSM}/file`), 'ENOTDIR', 'list', `${TSM}/file`)
  assert.deepEqual(await transport.list(entry), [])
}

async function reads(transport: Transport, tree: Tree, entry: string): Promise<void> {
  const path = `${entry}/outblob`
  for (const length of [0, 1, 65_535, 65_536, 65_537, 300_000]) {
    const bytes = Uint8Array.from({ length }, (_, i) => i * 7)
    tree.put(path, bytes)
    assert.deepEqual(new Uint8Array(await transport.read(path, length)), bytes)
    assert.deepEqual(new Uint8Array(await transport.read(path, length + 1)), bytes)
    if (length > 0) await fails(transport.read(path, length - 1), 'EFBIG', 'read', path)
  }
  await fails(transport.read(`${entry}/none`, 1), 'ENOENT', 'read', `${entry}/none`)
  symlinkSync('outblob', join(tree.root, entry, 'link'))
  await fails(transport.read(`${entry}/link`, 1), 'ELOOP', 'read', `${entry}/link`)
  await fails(
    transport.write(`${entry}/link`, new Uint8Array(1)),
    'ELOOP',
    'write',
    `${entry}/link`,
  )
  assert.equal(await transport.stat(`${entry}/link`), 'other')
  mkdirSync(join(tree.root, entry, 'folder'))
  await fails(transport.read(`${entry}/folder`, 9), 'EISDIR', 'read', `${entry}/folder`)
}

async function writes(transport: Transport, tree: Tree, entry: string): Promise<void> {
  const path = `${REGISTERS}/rtmr3:sha384`
  await fails(transport.write(path, new Uint8Array(48)), 'ENOENT', 'write', path)
  tree.put(path, 'x'.repeat(50))
  await transport.write(path, new Uint8Array(48).fill(97))
  await transport.write(path, new Uint8Array(0))
  // It neither truncates nor appends.
  assert.equal(readFileSync(join(tree.root, path), 'utf8'), `${'a'.repeat(48)}xx`)
  const folder = `${entry}/folder`
  await fails(transport.write(folder, new Uint8Array(1)), 'EISDIR', 'write', folder)
}
