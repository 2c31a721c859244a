/** Whom to believe, as files say it. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import * as v from 'valibot'
import { collateralFiles } from '../../plugins/kms/trust/collateral-files.ts'
import { TrustConfig } from '../../plugins/kms/trust/config.ts'
import { openTrust } from '../../plugins/kms/trust/open-trust.ts'
import { trustPermissions } from '../../plugins/kms/trust/permissions.ts'
import type { Collateral } from '../../src/attest/tdx/collateral.ts'
import { createNitroRoot } from '../../src/simulate/nitro-pki.ts'
import { certificatePem } from '../../src/x509/issue.ts'
import { lacks } from '../helpers/counterpart.ts'
import {
  answersOf,
  collateralOf,
  DAY_MS,
  ELSEWHERE,
  maker,
  PLATFORM_HERE,
  standInPccs,
  temporaryFolder,
} from './kms-trust-fixtures.ts'

const NOW = Date.now()
const pki = maker(NOW)
const made = collateralOf(pki, NOW)
const text = JSON.stringify(made)
const textElsewhere = JSON.stringify(collateralOf(pki, NOW, ELSEWHERE))
const rootPem = certificatePem(pki.root.certificate)

const config = (table: object): TrustConfig => v.parse(TrustConfig, table)

const open = (table: object, log: string[] = []) =>
  openTrust(config(table), { log: (message) => log.push(message), now: () => NOW })

/** A folder that is looked at whenever it is asked for; what was written in it is old. */
function watched(t: TestContext, path = temporaryFolder(t)) {
  const log: string[] = []
  let clock = 0
  const files = collateralFiles({ path, log: (message) => log.push(message), clock: () => clock })
  const find = (platform = PLATFORM_HERE, at = NOW): Promise<Collateral | undefined> => {
    clock += 1000
    return files.find(platform, at).then((found) => found?.collateral)
  }
  const write = (name: string, content: string | Uint8Array, age = 60) => {
    const file = join(path, name)
    writeFileSync(file, content)
    const then = NOW / 1000 - age
    utimesSync(file, then, then)
    return file
  }
  return { path, log, find, write, stand: () => files.find(PLATFORM_HERE, NOW) }
}

describe('anchors', () => {
  test('are those of the makers where none are named', async () => {
    const trust = await open({})
    assert.equal(trust.tdxRoot, undefined)
    assert.equal(trust.nitroRoot, undefined)
    assert.equal(trust.requireSeptVeDisable, true)
    assert.equal(await trust.collateral(PLATFORM_HERE), undefined)
  })

  test('are read out of PEM files', async (t) => {
    const folder = temporaryFolder(t)
    const nitro = createNitroRoot(NOW)
    writeFileSync(join(folder, 'tdx.pem'), `made for tests\n${rootPem}`)
    writeFileSync(join(folder, 'nitro.pem'), certificatePem(nitro.certificate))
    const trust = await open({
      tdx_root: join(folder, 'tdx.pem'),
      nitro_root: join(folder, 'nitro.pem'),
      require_sept_ve_disable: false,
    })
    assert.deepEqual(trust.tdxRoot, new Uint8Array(pki.root.certificate))
    assert.deepEqual(trust.nitroRoot, new Uint8Array(nitro.certificate))
    assert.equal(trust.requireSeptVeDisable, false)
  })

  test('that cannot be used are named', async (t) => {
    const folder = temporaryFolder(t)
    const fails = async (key: string, name: string, content: string | undefined, why: RegExp) => {
      const path = join(folder, name)
      if (content !== undefined) writeFileSync(path, content)
      const extra = key === 'pccs_ca_file' ? { pccs_url: 'https://pccs.example' } : {}
      const error = await open({ ...extra, [key]: path }).then(
        () => assert.fail(`${name} was accepted`),
        (error) => error,
      )
      assert.deepEqual([error.name, error.code], ['TrustError', 'TRUST_SETUP'])
      assert.ok(error.message.startsWith(`Cannot use "${path}": `), error.message)
      assert.match(error.message, why)
    }
    const leaf = certificatePem(pki.tcbSigning.certificate)
    for (const key of ['tdx_root', 'nitro_root']) {
      await fails(key, 'absent.pem', undefined, /ENOENT/)
      await fails(key, 'two.pem', rootPem + leaf, /more than one certificate/)
      await fails(key, 'leaf.pem', leaf, /not that of an authority/)
      await fails(key, 'large.pem', rootPem.padEnd(70_000, '\n'), /larger than 65536 bytes/)
    }
    for (const key of ['tdx_root', 'nitro_root', 'pccs_ca_file']) {
      await fails(key, 'empty.pem', '', /no certificate in PEM/)
      await fails(key, 'cut.pem', rootPem.slice(0, 300), /has no end/)
      await fails(key, 'damaged.pem', rootPem.replace('MII', 'M!I'), /base64 is damaged/)
      await fails(key, '.', undefined, /no regular file/)
    }
    const hollow = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
    await fails('tdx_root', 'hollow.pem', hollow, /certificate/)
  })

  test('are not waited for where a pipe is in their place', async (t) => {
    if (lacks(t, 'mkfifo')) return
    const path = join(temporaryFolder(t), 'root.pem')
    execFileSync('mkfifo', [path])
    await assert.rejects(open({ tdx_root: path }), /it is no regular file/)
  })
})

describe('collateral in files', () => {
  test('is found by its platform, in a file or in a folder', async (t) => {
    const { path, write, find, log } = watched(t)
    const file = write('here.json', text)
    write('elsewhere.json', textElsewhere)
    write('readme.txt', 'not for the daemon')
    write('.here.json.tmp', '{')
    write('.hidden.json', '{')
    assert.equal((await find())?.tcbInfo.text, made.tcb_info)
    assert.match((await find(ELSEWHERE))?.tcbInfo.text ?? '', /"fmspc":"00A06F000000"/)
    assert.equal(await find({ ...PLATFORM_HERE, ca: 'processor' }), undefined)
    assert.equal(await find({ ...PLATFORM_HERE, fmspc: '0'.repeat(12) }), undefined)
    const one = watched(t, file)
    assert.equal((await one.find())?.tcbInfo.text, made.tcb_info)
    assert.equal(await one.find(ELSEWHERE), undefined)
    assert.deepEqual([...log, ...one.log], [])
    const trust = await open({ collateral: path })
    assert.equal((await trust.collateral(PLATFORM_HERE))?.tcbInfo.text, made.tcb_info)
  })

  test('is read again when it changes, comes or goes', async (t) => {
    const { path, write, find, log } = watched(t)
    assert.equal(await find(), undefined)
    write('a.json', text)
    assert.ok(await find())
    const newer = collateralOf(pki, NOW + 1000)
    write('a.json', JSON.stringify(newer), 30)
    assert.equal((await find())?.tcbInfo.text, newer.tcb_info)
    renameSync(write('b.json.new', textElsewhere), join(path, 'a.json'))
    assert.equal(await find(), undefined)
    assert.ok(await find(ELSEWHERE))
    rmSync(join(path, 'a.json'))
    assert.equal(await find(ELSEWHERE), undefined)
    assert.deepEqual(log, [])
  })

  test('is read again as long as its times may not tell', async (t) => {
    const { path, find } = watched(t)
    const file = join(path, 'a.json')
    const size = text.length
    const now = new Date()
    const put = (content: string) => {
      writeFileSync(file, content.padEnd(size))
      utimesSync(file, now, now)
    }
    for (const content of [text, '{}', text, textElsewhere, text]) {
      put(content)
      assert.equal((await find(ELSEWHERE)) !== undefined, content === textElsewhere)
    }
    assert.ok(await find())
  })

  test('is looked at once a second, and once for all who ask', async (t) => {
    const { write, find, stand } = watched(t)
    assert.equal(await find(), undefined)
    write('a.json', text)
    assert.deepEqual(await Promise.all([stand(), stand()]), [undefined, undefined])
    assert.ok(await find())
  })

  test('that is bad is reported once, keeps what it said, and takes nothing down', async (t) => {
    const { path, write, find, log } = watched(t)
    write('here.json', text)
    const bad = {
      'cut.json': text.slice(0, 1000),
      'empty.json': '',
      'large.json': `${text}${' '.repeat(300_000)}`,
      'other.json': JSON.stringify({ ...made, tcb_info: '{"id":"SGX"}' }),
      'list.json': '[]',
    }
    for (const [name, content] of Object.entries(bad)) write(name, content)
    mkdirSync(join(path, 'folder.json'))
    symlinkSync(join(path, 'nowhere'), join(path, 'link.json'))
    for (let i = 0; i < 3; i++) assert.ok(await find())
    const named = [...Object.keys(bad), 'folder.json', 'link.json'].sort()
    assert.equal(log.length, named.length, log.join('\n'))
    for (const [i, name] of named.entries()) assert.ok(log[i]?.includes(name), log[i])
    // Somebody writes into the good one, and is not done.
    write('here.json', text.slice(0, 3000), 50)
    assert.ok(await find())
    assert.equal(log.length, named.length + 1)
    write('here.json', textElsewhere, 40)
    assert.equal(await find(), undefined)
    assert.ok(await find(ELSEWHERE))
  })

  test('that is bad is known at the start', async (t) => {
    const { path, write } = watched(t)
    write('bad.json', '{')
    write('here.json', text)
    const log: string[] = []
    const trust = await open({ collateral: path }, log)
    const named = `Cannot use "${join(path, 'bad.json')}": Cannot read collateral: it is not JSON`
    assert.deepEqual(log, [named])
    assert.ok(await trust.collateral(PLATFORM_HERE))
    const absent = join(path, 'absent')
    await open({ collateral: absent }, log)
    assert.deepEqual(log, [named, `Cannot use "${absent}": ENOENT`])
  })

  test('that is not there is reported, and looked for again', async (t) => {
    const folder = temporaryFolder(t)
    const path = join(folder, 'later')
    const { find, log } = watched(t, path)
    assert.equal(await find(), undefined)
    assert.equal(await find(), undefined)
    assert.deepEqual(log, [`Cannot use "${path}": ENOENT`])
    mkdirSync(path)
    writeFileSync(join(path, 'a.json'), text)
    assert.ok(await find())
    rmSync(path, { recursive: true })
    await find()
    assert.equal(log.length, 2)
  })

  test('is the newest that is valid', async (t) => {
    const { write, find } = watched(t)
    const [older, newer] = [collateralOf(pki, NOW - DAY_MS), collateralOf(pki, NOW)]
    write('1.json', JSON.stringify(newer))
    write('2.json', JSON.stringify(older))
    assert.equal((await find())?.tcbInfo.text, newer.tcb_info)
    const shorter = { ...collateralOf(pki, NOW + 1000), root_ca_crl: older.root_ca_crl }
    write('3.json', JSON.stringify(shorter))
    assert.equal((await find())?.tcbInfo.text, shorter.tcb_info)
    const late = NOW + 29.5 * DAY_MS
    assert.equal((await find(PLATFORM_HERE, late))?.tcbInfo.text, newer.tcb_info)
    assert.ok(await find(PLATFORM_HERE, NOW + 90 * DAY_MS), 'the verifier says what is wrong')
  })

  test('is read of so many files', async (t) => {
    const { write, find, log, path } = watched(t)
    for (let i = 0; i < 256; i++) write(`a${String(i).padStart(3, '0')}.json`, textElsewhere)
    write('b.json', text)
    assert.equal(await find(), undefined)
    assert.ok(await find(ELSEWHERE))
    assert.deepEqual(log, [`Cannot use all of "${path}": 257 files, the first 256 are read`])
  })

  test('may be anything, and nothing is thrown', async (t) => {
    const { write, find } = watched(t)
    write('good.json', text)
    let age = 10_000
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((json) => Buffer.from(json)),
          fc
            .tuple(fc.constantFrom(...Object.keys(made)), fc.jsonValue())
            .map(([key, value]) => Buffer.from(JSON.stringify({ ...made, [key]: value }))),
        ),
        async (bytes) => {
          write('odd.json', bytes, age--)
          assert.ok(await find())
        },
      ),
      { numRuns: 60 },
    )
  })
})

describe('files and a service', () => {
  test('the service is asked where there is no file, or none that is valid', async (t) => {
    const folder = temporaryFolder(t)
    const root = join(folder, 'root.pem')
    writeFileSync(root, rootPem)
    const pccs = await standInPccs(t, answersOf(made))
    const table = { tdx_root: root, collateral: join(folder, 'known'), pccs_url: pccs.url }
    mkdirSync(table.collateral)
    const file = join(table.collateral, 'here.json')
    const first = await open(table)
    assert.equal((await first.collateral(PLATFORM_HERE))?.tcbInfo.text, made.tcb_info)
    assert.equal(pccs.seen.length, 4)
    assert.ok(await first.collateral(PLATFORM_HERE))
    assert.equal(pccs.seen.length, 4, 'it is kept')

    const local = collateralOf(pki, NOW - DAY_MS)
    writeFileSync(file, JSON.stringify(local))
    const second = await open(table)
    assert.equal((await second.collateral(PLATFORM_HERE))?.tcbInfo.text, local.tcb_info)
    assert.equal(pccs.seen.length, 4)

    writeFileSync(file, JSON.stringify(collateralOf(pki, NOW - 40 * DAY_MS)))
    const third = await open(table)
    assert.equal((await third.collateral(PLATFORM_HERE))?.tcbInfo.text, made.tcb_info)
    assert.equal(pccs.seen.length, 8)
    const alone = await open({ ...table, pccs_url: undefined })
    assert.ok(await alone.collateral(PLATFORM_HERE), 'the verifier says that it is too old')

    const log: string[] = []
    const fourth = await open(table, log)
    await assert.rejects(fourth.collateral(ELSEWHERE), { code: 'PCCS_MALFORMED' })
    assert.equal(log.length, 1)
    assert.equal(log[0]?.includes(pccs.url), true)
  })

  test('a service is not asked after the end', async (t) => {
    const pccs = await standInPccs(t, answersOf(made))
    const options = { log: () => undefined, signal: AbortSignal.abort() }
    const trust = await openTrust(config({ pccs_url: pccs.url }), options)
    await assert.rejects(trust.collateral(PLATFORM_HERE), { code: 'PCCS_ABORTED' })
    assert.equal(pccs.seen.length, 0)
  })

  test('what is touched can be listed', () => {
    assert.deepEqual(trustPermissions(config({})), { read: [] })
    assert.deepEqual(
      trustPermissions(
        config({
          tdx_root: '/etc/a.pem',
          nitro_root: '/etc/b.pem',
          collateral: '/var/lib/collateral',
          pccs_url: 'https://pccs.example:8081/sgx/certification/v4/',
          pccs_ca_file: '/etc/c.pem',
        }),
      ),
      {
        read: ['/etc/a.pem', '/etc/b.pem', '/var/lib/collateral', '/etc/c.pem'],
        net: ['pccs.example:8081'],
      },
    )
    const intel = trustPermissions(config({ pccs_url: 'https://api.trustedservices.intel.com' }))
    assert.deepEqual(intel.net, [
      'api.trustedservices.intel.com:443',
      'certificates.trustedservices.intel.com:443',
    ])
    assert.deepEqual(trustPermissions(config({ pccs_url: 'http://[::1]' })).net, ['[::1]:80'])
  })

  test('a URL with secrets or parameters is refused', () => {
    for (const pccs_url of [
      'ftp://pccs.example',
      'pccs.example',
      'https://user:secret@pccs.example',
      'https:\\\\token@pccs.example',
      'https://pccs.example/?key=1',
      'https://pccs.example/#x',
    ]) {
      assert.equal(v.safeParse(TrustConfig, { pccs_url }).success, false, pccs_url)
    }
  })
})
