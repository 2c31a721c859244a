/** A daemon that simulates a machine, from the sockets to the verdict of `cvmd verify`. */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { readContainer } from '../src/attest/container.ts'
import { parseCollateral } from '../src/attest/tdx/collateral.ts'
import { parseQuote } from '../src/attest/tdx/quote.ts'
import { reasonOf } from '../src/attest/verdict.ts'
import { recognise } from '../src/cli/verify/evidence.ts'
import { parseRoot } from '../src/cli/verify/input.ts'
import { type Judgement, type JudgeOptions, judge } from '../src/cli/verify/judge.ts'
import type { EventPage, WireEvent } from '../src/events/wire.ts'
import {
  type DaemonOptions,
  type DaemonProcess,
  freshFolder,
  runCvmd,
  startDaemon,
  unixRequest,
} from './helpers/daemon.ts'

const LISTEN = `[[listen]]
unix = "{folder}/run/cvmd.sock"
[[listen]]
unix = "{folder}/run/dstack.sock"
core = false
plugins = ["tdx", "nitro", "guest"]
dialect = "dstack"
`

interface Simulated extends DaemonProcess {
  /** JSON from the application's socket, or from the operator's for a path below `/cvmd/`. */
  ask(path: string, body?: object): Promise<Record<string, string>>
  /** Judges an answer as `cvmd verify` does, in this process; by default under the own root. */
  judged(answer: unknown, options?: Partial<JudgeOptions>): Judgement
  /** Saves a file and has the command itself judge it. */
  verify(content: string, ...flags: string[]): ReturnType<typeof runCvmd>
  /** Flags for the own root, and for the collateral where there is some. */
  readonly trust: readonly string[]
}

/** The code of the first failed step; undefined when all is well. */
const codeOf = (verdict: Judgement) => reasonOf(verdict)?.code
const logStep = ({ steps }: Judgement) => steps.find(({ name }) => name === 'downloaded log')

async function simulated(platform: 'tdx' | 'nitro', options: DaemonOptions = {}) {
  const config = `${LISTEN}${options.config ?? ''}`
  const daemon = await startDaemon({ ...options, config, args: ['--simulate', platform] })
  const { folder } = daemon
  const published = join(folder, 'state', 'simulate')
  const trust = [
    ...['--root', join(published, `${platform}-root.pem`)],
    ...(platform === 'tdx' ? ['--collateral', join(published, 'tdx-collateral.json')] : []),
  ]
  const found: Simulated = {
    ...daemon,
    trust,
    ask: async (path, body) => {
      const own = path.startsWith('/cvmd/')
      const init = body ? { method: 'POST', body: JSON.stringify(body) } : {}
      const socket = own ? daemon.socket : join(folder, 'run', 'dstack.sock')
      const answer = await unixRequest(socket, path, init)
      assert.equal(answer.status, 200, `${path} ${answer.body}`)
      return JSON.parse(answer.body)
    },
    judged: (answer, options) => {
      const [, root = '', , collateral] = trust
      return judge(recognise(Buffer.from(JSON.stringify(answer))), {
        at: Date.now(),
        root: parseRoot(readFileSync(root)),
        collateral:
          collateral === undefined ? undefined : parseCollateral(readFileSync(collateral)),
        allowDebug: false,
        ...options,
      })
    },
    verify: (content, ...flags) => {
      const file = join(folder, `input-${files++}`)
      writeFileSync(file, content)
      return runCvmd(['verify', file, ...flags])
    },
  }
  return found
}

let files = 0
const NONCE = '5eed'.repeat(8)
const unhex = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'))

for (const platform of ['tdx', 'nitro'] as const) {
  describe(`--simulate ${platform}`, () => {
    let daemon: Simulated
    before(async () => {
      daemon = await simulated(platform)
    })
    after(() => daemon.stop())

    test('evidence from the sockets is accepted under its own root, and under no other', async () => {
      const reportData = unhex('ab'.repeat(64))
      const data = 'ab'.repeat(64)
      const nonce = unhex(NONCE)
      const method = platform === 'tdx' ? '/GetQuote' : '/GetAttestation'
      const member = platform === 'tdx' ? 'report_data' : 'user_data'
      for (const [path, body, expected, other] of [
        [`${method}?${member}=${data}`, undefined, { reportData }, { reportData: nonce }],
        [method, { [member]: data }, { reportData }, { reportData: nonce }],
        ['/Attest', { report_data: data }, { reportData }, { reportData: nonce }],
        [`/attestation?nonce=${NONCE}`, undefined, { nonce }, { nonce: reportData }],
        [`/cvmd/attested-log?nonce=${NONCE}`, undefined, { nonce }, { nonce: reportData }],
      ] as const) {
        const answer = await daemon.ask(path, body)
        assert.equal(codeOf(daemon.judged(answer, expected)), undefined, path)
        assert.ok(daemon.judged(answer, expected).accepted, path)
        assert.equal(daemon.judged(answer, other).accepted, false, path)
        // What was simulated convinces nobody who trusts the vendor.
        const pinned = daemon.judged(answer, { ...expected, root: undefined })
        assert.equal(pinned.accepted, false, path)
        assert.match(codeOf(pinned) ?? '', /ROOT|ANCHOR|UNTRUSTED/, path)
      }
    })

    test('the command itself ends with 0, 1 and 2', async () => {
      const text = JSON.stringify(await daemon.ask(`/attestation?nonce=${NONCE}`))
      const good = await daemon.verify(text, ...daemon.trust, '--nonce', NONCE)
      assert.deepEqual([good.status, good.stderr], [0, ''], good.stdout)
      assert.match(good.stdout, /\naccepted\n$/)
      const pinned = await daemon.verify(text, ...daemon.trust.slice(2), '--nonce', NONCE)
      assert.equal(pinned.status, 1)
      assert.match(pinned.stdout, /\nrejected: .*\n$/)
      assert.equal((await daemon.verify(text.slice(0, -40), ...daemon.trust)).status, 2)
    })

    test('the attested log proves a downloaded one, and names what was changed in it', async () => {
      const answer = await daemon.ask(`/cvmd/attested-log?nonce=${NONCE}`)
      const page = (await daemon.ask('/cvmd/events')) as unknown as EventPage
      const against = (events: readonly WireEvent[], previous = page.previous) => {
        const log = Buffer.from(JSON.stringify({ ...page, events, previous }))
        return daemon.judged(answer, { nonce: unhex(NONCE), log })
      }
      const good = against(page.events)
      assert.equal(codeOf(good), undefined)
      assert.match(logStep(good)?.detail ?? '', new RegExp(`^events 1 to ${answer.seq} are`))
      const [first, second, third, ...rest] = page.events as [WireEvent, WireEvent, WireEvent]
      for (const [events, code, detail] of [
        [[first, { ...second, message: 'x' }, third, ...rest], 'EVENT_ALTERED', /event 2 was alt/],
        [[first, third, ...rest], 'EVENT_REMOVED', /event 2 is missing/],
        [[second, first, third, ...rest], 'EVENT_ALTERED', /event 2/],
        [[first, third, second, ...rest], 'EVENT_REORDERED', /event 2 was moved/],
        [[first, second], 'EVENT_REMOVED', /event 3 is missing/],
      ] as const) {
        const verdict = against(events)
        assert.deepEqual([verdict.accepted, codeOf(verdict)], [false, code])
        assert.match(reasonOf(verdict)?.detail ?? '', detail)
      }
      const late = (await daemon.ask('/cvmd/events?after=1')) as unknown as EventPage
      const { detail = '' } = logStep(against(late.events, late.previous)) ?? {}
      assert.match(detail, /^events 2 to .*those before 2 are not proven/)
    })

    test('it says everywhere that it is none', async () => {
      const lines = daemon.output().trimEnd().split('\n')
      assert.ok(lines.length >= 3)
      for (const line of lines) assert.match(line, new RegExp(`simulated=${platform}`))
      assert.match(daemon.output(), /for development, nothing here is protected/)
      assert.equal((await daemon.ask('/cvmd/plugins')).simulated, platform)
      const { events } = (await daemon.ask('/cvmd/events')) as unknown as EventPage
      assert.ok(events.some(({ message }) => message.startsWith(`simulating ${platform}:`)))
      const info = await daemon.ask('/Info')
      assert.equal(info.cloud_product, 'NOT A REAL TEE')
      const page = await unixRequest(join(daemon.folder, 'run', 'dstack.sock'), '/')
      assert.match(page.body, /Simulated machine/)
      const root = readFileSync(daemon.trust[1] ?? '', 'utf8')
      assert.match(new X509Certificate(root).subject, /NOT A REAL TEE/)
    })

    test('a reload keeps registers, events and root', async () => {
      const [info, root] = [await daemon.ask('/Info'), readFileSync(daemon.trust[1] ?? '', 'utf8')]
      const config = join(daemon.folder, 'cvmd.toml')
      const before = readFileSync(config, 'utf8')
      for (const change of [
        '[attestation]\nwaiting = 8\n',
        '[plugins.guest]\nemit_event = true\n',
      ]) {
        writeFileSync(config, `${before}${change}`)
        const reload = await unixRequest(daemon.socket, '/cvmd/reload', { method: 'POST' })
        assert.equal(reload.status, 200, reload.body)
        assert.deepEqual(await daemon.ask('/Info'), info, change)
        const answer = await daemon.ask('/Attest')
        assert.equal(codeOf(daemon.judged(answer)), undefined, change)
      }
      assert.equal(readFileSync(daemon.trust[1] ?? '', 'utf8'), root)
      if (platform === 'nitro') return
      assert.equal(await daemon.ask('/EmitEvent', { event: 'login', payload: '00' }), null)
      const answer = await daemon.ask('/GetQuote', {})
      assert.equal(codeOf(daemon.judged(answer)), undefined)
      assert.match(answer.event_log ?? '', /"event":"login"/)
    })

    test('64 callers at once each get evidence over data of their own', async () => {
      const fills = Array.from({ length: 64 }, (_, i) => i.toString(16).padStart(2, '0'))
      const socket = join(daemon.folder, 'run', 'dstack.sock')
      const ask = async (fill: string): Promise<string> => {
        for (;;) {
          const body = JSON.stringify({ report_data: fill.repeat(64) })
          const answer = await unixRequest(socket, '/Attest', { method: 'POST', body })
          if (answer.status === 200) return JSON.parse(answer.body).attestation
          // Told to come back, which a real client does.
          assert.equal(answer.status, 429)
          assert.ok(Number(answer.headers['retry-after']) >= 1)
        }
      }
      for (const [i, attestation] of (await Promise.all(fills.map(ask))).entries()) {
        const { platform: made, stack } = readContainer(Buffer.from(attestation, 'hex'))
        assert.deepEqual(new Uint8Array(stack.reportData), new Uint8Array(64).fill(i))
        if (made.kind !== 'tdx') continue
        const { reportData } = parseQuote(made.quote)
        assert.deepEqual(new Uint8Array(reportData), new Uint8Array(64).fill(i))
      }
      const { status } = await unixRequest(daemon.socket, '/livez')
      assert.equal(status, 200)
    })
  })
}

test('a restart keeps the root, so that old evidence stays good', async () => {
  const folder = freshFolder()
  const first = await simulated('tdx', { folder })
  const answer = await first.ask('/GetQuote?report_data=01')
  const info = await first.ask('/Info')
  assert.equal(await first.stop(), 0)
  const second = await simulated('tdx', { folder })
  assert.equal(codeOf(second.judged(answer)), undefined)
  // A machine that booted again measures the same application again.
  const again = await second.ask('/Info')
  assert.deepEqual(again, info)
  assert.equal(await second.stop(), 0)
})

test('doctor, check and plugins look at the simulated machine, and leave no trace', async () => {
  const folder = freshFolder()
  const env = { CVMD_STATE_DIR: join(folder, 'state'), CVMD_RUN_DIR: join(folder, 'run') }
  for (const [platform, plugin, other] of [
    ['tdx', 'tdx', 'nitro'],
    ['nitro', 'nitro', 'tdx'],
  ] as const) {
    const flags = ['--simulate', platform]
    const doctor = await runCvmd(['doctor', ...flags], env)
    assert.equal(doctor.status, 0, doctor.stderr)
    assert.match(doctor.stdout, /devices are reached by simulated calls/)
    assert.match(doctor.stdout, new RegExp(`^${platform === 'tdx' ? 'tdx' : 'nsm'} +present`, 'm'))
    const check = await runCvmd(['check', ...flags], env)
    assert.equal(check.status, 0, check.stdout)
    const plugins = await runCvmd(['plugins', '--json', ...flags], env)
    const list = JSON.parse(plugins.stdout) as { plugins?: object[] }
    const states = new Map(
      ((list.plugins ?? list) as { name: string; state: string }[]).map((p) => [p.name, p.state]),
    )
    assert.equal(states.get(plugin), 'enabled')
    assert.equal(states.get('guest'), 'enabled')
    assert.equal(states.get(other), 'unavailable')
  }
  const strange = await runCvmd(['check', '--simulate', 'sev'], env)
  assert.equal(strange.status, 1)
  assert.match(strange.stderr, /cannot simulate "sev": expected tdx or nitro/)
  assert.throws(() => readFileSync(join(folder, 'state', 'simulate', 'tdx-keys.pem')))
})
