/** Whom a KMS believes: certificates with evidence, and everything that is wrong with others. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { verifyPeer } from '../../plugins/kms/server/peer.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import type { EvidenceTrust, VerifiedEvidence } from '../../plugins/kms/trust/verified-evidence.ts'
import { raTlsExtensions, raTlsReportData } from '../../src/attest/ra-tls.ts'
import { runtimeEntry } from '../../src/attest/runtime-event.ts'
import { TrustError } from '../../src/collateral/trust-error.ts'
import { PLATFORM } from '../../src/simulate/tdx-platform.ts'
import { parsePemChain } from '../../src/x509/pem.ts'
import { lacks } from '../helpers/counterpart.ts'
import { vectors } from '../helpers/vectors.ts'
import {
  APP_EVENTS,
  attestedBy,
  attestedForAnother,
  type Client,
  cloud,
  containerOf,
  type Machine,
  mint,
  mintBy,
  temporaryCaOf,
} from './kms-server-fixtures.ts'

const NOW = Date.now()
const { trust, ...machines } = cloud(NOW)
const material = createMaterial(randomRootKeys(), 'kms.example', undefined)
const temporaryCa = temporaryCaOf(material)

function verify(
  client: Client | undefined,
  at = NOW,
  by: EvidenceTrust = trust,
): Promise<VerifiedEvidence> {
  return verifyPeer(client?.der, temporaryCa, by, at)
}

/** Status, code, text and the code of what was found. */
async function refused(work: () => Promise<unknown>): Promise<readonly unknown[]> {
  try {
    await work()
  } catch (error) {
    const { name, status, code, message, cause } = error as Error & Record<string, unknown>
    assert.equal(name, 'ApiError', String(error))
    return [status, code, message, (cause as { code?: string } | undefined)?.code]
  }
  return assert.fail('it was accepted')
}

/** The code of what was found, of somebody who is not authorised. */
async function unauthorized(machine: Machine, at = NOW): Promise<unknown> {
  const [status, code, message, found] = await refused(() =>
    verify(mint(material, attestedBy(machine)), at),
  )
  assert.deepEqual([status, code], [401, 'UNAUTHORIZED'])
  assert.match(String(message), /^Quote verification failed: /)
  return found
}

describe('a peer', () => {
  test('on TDX is who its event log says, in either form of evidence', async () => {
    const machine = machines.tdx()
    for (const form of ['attestation', 'quote'] as const) {
      const { boot, bootTime } = await verify(mint(material, attestedBy(machine, form)))
      assert.equal(boot.appId, APP_EVENTS['app-id'])
      assert.equal(boot.composeHash, APP_EVENTS['compose-hash'])
      assert.equal(boot.instanceId, APP_EVENTS['instance-id'])
      assert.equal(boot.osImageHash, APP_EVENTS['os-image-hash'])
      assert.equal(boot.keyProviderInfo, APP_EVENTS['key-provider'])
      assert.deepEqual([boot.teeVariant, boot.tcbStatus], ['dstack-tdx', 'UpToDate'])
      const { keyProviderInfo, mrAggregated, mrSystem, ...same } = bootTime
      assert.equal(keyProviderInfo, '')
      assert.notEqual(mrAggregated, boot.mrAggregated)
      assert.notEqual(mrSystem, boot.mrSystem)
      assert.deepEqual({ ...boot, ...same }, boot)
    }
  })

  test('on Nitro is its image', async () => {
    const { boot, bootTime } = await verify(mint(material, attestedBy(machines.nitro())))
    assert.equal(boot.teeVariant, 'dstack-nitro-enclave')
    assert.equal(boot.composeHash, boot.osImageHash)
    assert.deepEqual(boot, bootTime)
  })

  test('is somebody no longer than its certificate, and its issuer’s, are valid', async () => {
    const notAfter = Math.floor(NOW / 1000) + 60
    for (const machine of [machines.tdx(), machines.nitro()]) {
      const client = mint(material, attestedBy(machine), { notAfter })
      assert.equal((await verify(client)).validUntil, notAfter * 1000)
    }
    const { validUntil = 0 } = await verify(mint(material, attestedBy(machines.tdx())))
    assert.ok(validUntil > NOW && validUntil <= temporaryCa.notAfter)
  })

  test('is not what its certificate says beside the evidence', async () => {
    const machine = machines.tdx()
    const liar = mint(material, (spki) => [
      ...attestedBy(machine)(spki),
      ...raTlsExtensions({ appId: new Uint8Array(20).fill(0xee), usage: 'kms:rpc' }),
    ])
    assert.equal((await verify(liar)).boot.appId, APP_EVENTS['app-id'])
  })

  test('is not what an application measured after the boot', async () => {
    const late = { ...APP_EVENTS, 'late-app-id': '', 'app-id:x': '' }
    const { boot } = await verify(mint(material, attestedBy(machines.tdx(late))))
    assert.equal(boot.appId, APP_EVENTS['app-id'])
  })
})

describe('nobody is let in', () => {
  test('without a certificate, or without evidence in it', async () => {
    const none = [401, 'UNAUTHORIZED', 'No attestation provided', undefined]
    assert.deepEqual(await refused(() => verify(undefined)), none)
    assert.deepEqual(await refused(() => verify(mint(material, () => []))), none)
    const named = mint(material, () => raTlsExtensions({ appId: new Uint8Array(20) }))
    assert.deepEqual(await refused(() => verify(named)), none)
  })

  test('with evidence about another key', async () => {
    for (const machine of [machines.tdx(), machines.nitro()]) {
      assert.deepEqual(await refused(() => verify(mint(material, attestedForAnother(machine)))), [
        401,
        'UNAUTHORIZED',
        'Quote verification failed: report data mismatch',
        'REPORT_DATA_MISMATCH',
      ])
    }
  })

  test('whose certificate another authority issued, or is not valid now', async () => {
    const other = createMaterial(randomRootKeys(), 'other.example', undefined)
    const evidence = attestedBy(machines.tdx())
    for (const [client, found] of [
      [mint(other, evidence), 'CERTIFICATE_NOT_ISSUED'],
      [mintBy(material.authority, evidence), 'CERTIFICATE_NOT_ISSUED'],
      [mint(material, evidence, { notAfter: 1_000_000_000 }), 'CERTIFICATE_EXPIRED'],
      [
        mint(material, evidence, { notBefore: 4_000_000_000, notAfter: 4_100_000_000 }),
        'CERTIFICATE_NOT_YET_VALID',
      ],
    ] as const) {
      assert.equal((await refused(() => verify(client)))[3], found)
    }
  })

  test('whose evidence another maker signed', async () => {
    const strangers = cloud(NOW)
    assert.equal(await unauthorized(strangers.tdx()), 'ROOT_UNKNOWN')
    assert.equal(await unauthorized(strangers.nitro()), 'NITRO_ROOT_UNKNOWN')
  })

  test('who could be debugged, whichever bit of the byte allows it', async () => {
    for (const bit of [0, 1, 2, 3, 4, 5, 6, 7]) {
      const debugged = machines.tdx(APP_EVENTS, (report) => {
        report[512] = 1 << bit
      })
      const found = bit === 0 ? 'TD_DEBUG' : 'TD_ATTRIBUTES_RESERVED'
      assert.equal(await unauthorized(debugged), found)
    }
    assert.equal(await unauthorized(machines.nitro(0)), 'NITRO_DEBUG')
  })

  test('whose TD the host can stop at will, unless the operator allows it', async () => {
    const machine = machines.tdx(APP_EVENTS, (report) => {
      report[515] = 0
    })
    assert.equal(await unauthorized(machine), 'TD_SEPT_VE')
    const client = mint(material, attestedBy(machine))
    assert.ok(await verify(client, NOW, { ...trust, requireSeptVeDisable: false }))
  })

  test('under a foreign module or a service TD', async () => {
    const foreign = machines.tdx(APP_EVENTS, (report) => {
      report[328] = 1
    })
    assert.equal(await unauthorized(foreign), 'TDX_MODULE_MISMATCH')
    const served = machines.tdx(
      APP_EVENTS,
      (report) => {
        report[912] = 1
      },
      5,
    )
    assert.equal(await unauthorized(served), 'TD_SERVICE_TD')
    assert.ok(await verify(mint(material, attestedBy(machines.tdx(APP_EVENTS, undefined, 5)))))
  })

  test('with another event log than was measured', async () => {
    const machine = machines.tdx()
    const shown = (eventLog: Machine['eventLog']) => ({
      eventLog,
      evidence: (reportData: Uint8Array) => ({ ...machine.evidence(reportData), eventLog }),
    })
    const forged = machine.eventLog.map((entry) =>
      entry.event === 'app-id' ? { ...entry, event_payload: 'ee'.repeat(20) } : entry,
    )
    const more = runtimeEntry({ name: 'app-id', payload: new Uint8Array(20), version: 1 })
    for (const log of [forged, machine.eventLog.slice(0, -1), [...machine.eventLog, more], []]) {
      assert.equal(await unauthorized(shown(log)), 'EVENT_LOG_MISMATCH')
    }
  })

  test('who measured no application, or two', async () => {
    const { 'app-id': _, ...anonymous } = APP_EVENTS
    assert.equal(await unauthorized(machines.tdx(anonymous)), 'APP_ID_MISSING')
    assert.equal(
      await unauthorized(machines.tdx({ ...APP_EVENTS, 'app-id': 'ab' })),
      'EVENT_LOG_INVALID',
    )
    const hidden = { 'app-id:x': '', ...APP_EVENTS }
    assert.equal(await unauthorized(machines.tdx(hidden)), 'EVENT_AMBIGUOUS')
  })

  test('with a document that is too old', async () => {
    const hour = 3_600_000
    assert.equal(await unauthorized(machines.nitro(1, NOW - hour - 1000)), 'NITRO_TOO_OLD')
    assert.ok(await verify(mint(material, attestedBy(machines.nitro(1, NOW - hour + 1000)))))
  })

  test('by collateral that is missing or out of date, which is not his fault', async () => {
    const client = mint(material, attestedBy(machines.tdx()))
    const text = 'Cannot judge the quote: there is no valid collateral for its platform'
    const without = await refused(() =>
      verify(client, NOW, { ...trust, collateral: async () => undefined }),
    )
    assert.deepEqual(without, [500, 'INTERNAL_ERROR', text, 'COLLATERAL_MISSING'])
    const stale = await refused(() => verify(client, NOW + 31 * 24 * 3_600_000))
    assert.deepEqual(stale, [500, 'INTERNAL_ERROR', text, 'CRL_EXPIRED'])
  })

  test('while a service fails that would know, which is counted', async () => {
    const client = mint(material, attestedBy(machines.tdx()))
    const collateral = async () => {
      throw new TrustError('PCCS_TIMEOUT', 'Cannot ask http://pccs: no answer within 10000 ms')
    }
    const text = 'Cannot judge the quote: there is no valid collateral for its platform'
    assert.deepEqual(await refused(() => verify(client, NOW, { ...trust, collateral })), [
      500,
      'INTERNAL_ERROR',
      text,
      'PCCS_TIMEOUT',
    ])
  })

  test('by asking others about platforms that no maker of ours signed', async () => {
    const asked: string[] = []
    const spied: EvidenceTrust = {
      ...trust,
      collateral: (platform) => {
        asked.push(`${platform.ca} ${platform.fmspc}`)
        return trust.collateral(platform)
      },
    }
    const strangers = mint(material, attestedBy(cloud(NOW).tdx()))
    assert.equal((await refused(() => verify(strangers, NOW, spied)))[3], 'ROOT_UNKNOWN')
    const machine = machines.tdx()
    const certified = (change: (quote: Uint8Array) => void) =>
      mint(material, (spki) => {
        const platform = machine.evidence(raTlsReportData(spki))
        if (platform.kind === 'tdx') change(platform.quote)
        return raTlsExtensions({ attestation: containerOf(platform, spki) })
      })
    // The FMSPC inside the PCK certificate, which is PEM.
    const forged = certified((quote) => {
      const text = Buffer.from(quote).toString('latin1')
      const block = text.slice(text.indexOf('-----BEGIN'), text.indexOf('-----END'))
      const base64 = block.slice('-----BEGIN CERTIFICATE-----'.length).replaceAll('\n', '')
      const der = Buffer.from(base64, 'base64')
      der.set([1, 2, 3], der.indexOf(PLATFORM.fmspc))
      const lines = der.toString('base64').match(/.{1,64}/g) ?? []
      const pem = `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n`
      assert.equal(pem.length, block.length)
      quote.set(Buffer.from(pem), text.indexOf('-----BEGIN'))
    })
    assert.equal((await refused(() => verify(forged, NOW, spied)))[3], 'CERTIFICATE_NOT_ISSUED')
    assert.deepEqual(asked, [])
    await verify(mint(material, attestedBy(machine)), NOW, spied)
    assert.deepEqual(asked, [`platform ${Buffer.from(PLATFORM.fmspc).toString('hex')}`])
  })

  test('with bytes that are no certificate, and nothing else is thrown', async () => {
    const { der } = mint(material, attestedBy(machines.tdx()))
    const ends = async (bytes: Uint8Array) => {
      const [status, code] = await refused(() => verifyPeer(bytes, temporaryCa, trust, NOW))
      assert.deepEqual([status, code], [401, 'UNAUTHORIZED'])
    }
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), ends), { numRuns: 100 })
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: der.length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        async (at, mask) => {
          const changed = Uint8Array.from(der)
          changed[at] = (changed[at] ?? 0) ^ mask
          await ends(changed)
          await ends(der.subarray(0, at))
        },
      ),
      { numRuns: 60 },
    )
    await ends(new Uint8Array(20_000))
  })

  test('with evidence that is damaged inside a certificate that is not', async () => {
    const machine = machines.tdx()
    // Header, body, signature, attestation key and the enclave's report with its own signature;
    // behind them are names and padding, too, which nobody signs.
    const most = 48 + 584 + 4 + 64 + 64 + 6 + 384 + 64 - 1
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: most }),
        fc.integer({ min: 1, max: 255 }),
        async (at, mask) => {
          const client = mint(material, (spki) => {
            const platform = machine.evidence(raTlsReportData(spki))
            if (platform.kind === 'tdx') platform.quote[at] = (platform.quote[at] ?? 0) ^ mask
            return raTlsExtensions({ attestation: containerOf(platform, spki) })
          })
          const [, code] = await refused(() => verify(client))
          assert.ok(code === 'UNAUTHORIZED' || code === 'INTERNAL_ERROR')
        },
      ),
      { numRuns: 60 },
    )
  })
})

test('shared vectors: certificates of which none is to be believed', async (t) => {
  const folder = vectors('dstack')
  if (lacks(t, 'vectors', folder !== undefined)) return
  const expected = JSON.parse(readFileSync(join(folder ?? '', 'ratls/expected.json'), 'utf8'))
  let seen = 0
  for (const [file, { bound }] of Object.entries<{ bound?: boolean }>(expected)) {
    const pem = readFileSync(join(folder ?? '', 'ratls', file), 'utf8')
    const [leaf, issuer = leaf] = parsePemChain(pem)
    const [status, code, message] = await refused(() => verifyPeer(leaf.der, issuer, trust, NOW))
    assert.deepEqual([status, code], [401, 'UNAUTHORIZED'], `${file}: ${message}`)
    if (bound === false) assert.match(String(message), /^Quote verification failed: /)
    seen += 1
  }
  assert.equal(seen, 7)
})
