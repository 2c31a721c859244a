import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { parse } from 'smol-toml'
import * as v from 'valibot'
import type { z } from 'zod'
import { Command } from '../../plugins/actions/command.ts'
import { type CommandConfig, Config } from '../../plugins/actions/config.ts'
import actions from '../../plugins/actions/index.ts'
import { fillIn } from '../../plugins/actions/params.ts'
import type { RunDocument } from '../../plugins/actions/schemas.ts'
import { runProcess } from '../../src/process/run.ts'
import { lacks } from '../helpers/counterpart.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'
import { zombieChildren } from '../helpers/zombies.ts'

type Doc = z.output<typeof RunDocument>

interface Options {
  readonly scopes?: readonly string[]
  readonly config?: object
}

async function hosted(
  commands: object,
  work: (host: PluginHost) => Promise<void>,
  options: Options = {},
): Promise<void> {
  const caller = { kind: 'key', name: 'tester', scopes: options.scopes ?? ['*'] } as const
  const host = hostPlugin(
    actions,
    { grace_s: 0.3, ...options.config, commands },
    { guard: { authenticate: () => caller } },
  )
  await host.start()
  try {
    await work(host)
  } finally {
    await host.stop()
  }
}

function post(host: PluginHost, path: string, body?: object): Promise<Response> {
  const text = body === undefined ? undefined : JSON.stringify(body)
  return host.request(path, { method: 'POST', ...(text === undefined ? {} : { body: text }) })
}

/** Runs an action to its end. */
async function run(host: PluginHost, name: string, params?: Record<string, string>): Promise<Doc> {
  const body = params === undefined ? undefined : { params }
  const response = await post(host, `/cvmd/actions/${name}/runs?wait=1`, body)
  assert.equal(response.status, 200, await response.clone().text())
  return (await response.json()) as Doc
}

/** Starts an action and gives the path of its run. */
async function begin(host: PluginHost, name: string): Promise<string> {
  const response = await post(host, `/cvmd/actions/${name}/runs`)
  assert.equal(response.status, 202, await response.clone().text())
  return response.headers.get('location') ?? ''
}

async function show(host: PluginHost, path: string): Promise<Doc> {
  const response = await host.request(path)
  assert.equal(response.status, 200)
  return (await response.json()) as Doc
}

async function until(test: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (await test()) return
    await sleep(10)
  }
  assert.fail('it did not happen within 5 s')
}

/** Status and code of a refusal. */
async function refusal(response: Promise<Response>): Promise<[number, string]> {
  const answer = await response
  assert.equal(answer.headers.get('content-type'), 'application/problem+json')
  return [answer.status, ((await answer.json()) as { code: string }).code]
}

describe('actions configuration', () => {
  it('has a sample that parses to the defaults', () => {
    const sample = readFileSync('plugins/actions/config.sample.toml', 'utf8')
    const table = (parse(sample) as { plugins: { actions: object } }).plugins.actions
    assert.deepEqual(v.parse(Config, table), v.parse(Config, {}))
    const uncommented = sample.replace(/^# (?=[[a-z])/gm, '')
    const whole = (parse(uncommented) as { plugins: { actions: object } }).plugins.actions
    const { commands, ...rest } = v.parse(Config, whole)
    assert.deepEqual({ ...rest, commands: {} }, v.parse(Config, {}))
    assert.ok(Object.keys(commands).length > 0)
  })

  it('refuses what cannot work', () => {
    const param = { name: 'a' }
    for (const command of [
      {},
      { argv: [], shell: undefined },
      { argv: ['a'], shell: 'a' },
      { argv: [''] },
      { argv: ['nul\0'] },
      { shell: 'a', cwd: 'relative' },
      { shell: 'a', env: { 'not a name': 'x' } },
      { shell: 'a', timeout_s: -1 },
      { shell: 'a', timeout_s: 1e9 },
      { shell: 'a', max_output_bytes: 1e12 },
      { shell: 'a', unknown: 1 },
      { shell: 'a', user: '' },
      { shell: 'a', params: [param, param] },
      { shell: 'a', params: [{ name: 'A' }] },
      { shell: 'a', params: [{ name: 'a', pattern: '(' }] },
      { shell: 'a', params: [{ name: 'a', pattern: '[0-9]+', default: 'x' }] },
      { argv: ['{a}'], params: [param] },
      { argv: ['x', '{a}'], params: [{ ...param, required: false }] },
    ]) {
      const { success } = v.safeParse(Config, { commands: { name: command } })
      assert.equal(success, false, JSON.stringify(command))
    }
    assert.equal(v.safeParse(Config, { commands: { 'a/b': { shell: 'a' } } }).success, false)
    const compatible = { shell: 'a', system_api: true }
    assert.equal(v.safeParse(Config, { commands: { 'a/b': compatible } }).success, true)
  })

  it('lists what it touches', () => {
    const config = v.parse(Config, {
      commands: { a: { argv: ['/usr/bin/id', '-u'] }, b: { shell: 'x', user: 'root', cwd: '/x' } },
    })
    assert.deepEqual(actions.permissions?.(config), {
      read: ['/bin/ash', '/bin/sh', '/etc/passwd', '/etc/group', '/x'],
      run: ['/usr/bin/id', '/bin/ash', '/bin/sh', 'setpriv', '/bin/kill'],
      env: ['PATH', 'HOME', 'LANG', 'TZ', 'NODE_V8_COVERAGE'],
    })
  })
})

describe('actions', () => {
  it('runs argv and gives the whole run', async () => {
    await hosted({ hi: { argv: ['/bin/echo', 'a b', '$HOME'] } }, async (host) => {
      const { id, created_at, started_at, finished_at, duration_ms, ...rest } = await run(
        host,
        'hi',
      )
      assert.match(id, /^[0-9a-f]{32}$/)
      for (const time of [created_at, started_at, finished_at]) {
        assert.match(time ?? '', /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
      }
      assert.ok(duration_ms >= 0)
      assert.deepEqual(rest, {
        action: 'hi',
        state: 'exited',
        exit_code: 0,
        signal: null,
        error: null,
        timed_out: false,
        cancelled: false,
        params: [],
        caller: 'tester',
        stdout: 'a b $HOME\n',
        stdout_truncated: false,
        stderr: '',
        stderr_truncated: false,
      })
      assert.deepEqual(host.messages(), [
        '[system-api] executing action: hi',
        '[system-api] executing action success: hi',
      ])
    })
  })

  it('starts in the background and lets the run be looked at', async () => {
    await hosted({ slow: { shell: 'echo up; sleep 1; exit 9' } }, async (host) => {
      const path = await begin(host, 'slow')
      assert.equal((await show(host, path)).state, 'running')
      await until(async () => (await show(host, path)).state !== 'running')
      const { state, exit_code, stdout, error } = await show(host, path)
      assert.deepEqual([state, exit_code, stdout], ['exited', 9, 'up\n'])
      assert.equal(error, 'exit status 9')
      const { runs } = (await (await host.request('/cvmd/actions/runs')).json()) as { runs: Doc[] }
      assert.deepEqual(
        runs.map(({ action, stdout: none }) => [action, none]),
        [['slow', undefined]],
      )
    })
  })

  it('waits for at most the seconds asked for', async () => {
    await hosted({ slow: { shell: 'sleep 30' } }, async (host) => {
      const response = await post(host, '/cvmd/actions/slow/runs?wait=2')
      assert.equal(response.status, 202)
      assert.equal(((await response.json()) as Doc).state, 'running')
      assert.deepEqual(await refusal(post(host, '/cvmd/actions/slow/runs?wait=soon')), [
        400,
        'INVALID_REQUEST',
      ])
    })
  })

  it('lists names and parameters, and no command', async () => {
    const commands = {
      a: {
        description: 'Restart it',
        argv: ['/bin/true', 'canary-argv', '{unit}'],
        env: { TOKEN: 'canary-env' },
        params: [{ name: 'unit', pattern: 'a|b', default: 'a' }],
      },
      b: { shell: 'echo canary-shell' },
    }
    await hosted(commands, async (host) => {
      const text = await (await host.request('/cvmd/actions')).text()
      assert.ok(!text.includes('canary'))
      const idle = { running: 0, queued: 0, busy: false }
      const unit = { name: 'unit', pattern: 'a|b', max_length: 256, required: false }
      assert.deepEqual(JSON.parse(text), {
        actions: [
          { name: 'a', description: 'Restart it', params: [unit], ...idle },
          { name: 'b', description: '', params: [], ...idle },
        ],
      })
    })
  })

  it('scrubs the environment', async () => {
    process.env.CVMD_CANARY = 'x'
    process.env.BUN_OPTIONS_CANARY = 'x'
    try {
      const env = { TOKEN: 'value' }
      await hosted({ env: { argv: ['/usr/bin/env'], env } }, async (host) => {
        const names = (await run(host, 'env')).stdout
          .trim()
          .split('\n')
          .map((line) => line.split('=')[0])
        assert.ok(names.includes('PATH') && names.includes('TOKEN'))
        const allowed = ['PATH', 'HOME', 'LANG', 'TZ', 'TOKEN']
        assert.deepEqual(
          names.filter((name) => !allowed.includes(name ?? '')),
          [],
        )
      })
    } finally {
      delete process.env.CVMD_CANARY
      delete process.env.BUN_OPTIONS_CANARY
    }
  })

  it('works in the configured folder, and says when it is missing', async () => {
    const commands = {
      here: { argv: ['/bin/pwd'], cwd: '/usr' },
      nowhere: { argv: ['/bin/pwd'], cwd: '/nope' },
      nothing: { argv: ['/nope'] },
    }
    await hosted(commands, async (host) => {
      assert.equal((await run(host, 'here')).stdout, '/usr\n')
      const { state, error } = await run(host, 'nowhere')
      assert.deepEqual([state, error], ['failed', 'chdir /nope: no such file or directory'])
      assert.equal((await run(host, 'nothing')).error, 'fork/exec /nope: no such file or directory')
    })
  })

  it('switches users as root, and refuses to without', async () => {
    if (process.getuid?.() !== 0) {
      const host = hostPlugin(actions, { commands: { a: { shell: 'id', user: 0 } } })
      await assert.rejects(host.start(), /as user "0": cvmd runs as uid \d+, switching needs root/)
      await host.stop()
      return
    }
    const shell = 'id -u; id -G; echo $HOME $USER'
    const commands = { a: { shell, user: 'nobody' }, b: { shell, user: 65534 } }
    await hosted(commands, async (host) => {
      const { stdout } = await run(host, 'a')
      assert.match(stdout, /^65534\n65534\n\S+ nobody\n$/)
      assert.equal((await run(host, 'b')).stdout, stdout)
    })
  })

  it('keeps the supplementary groups of that user', async (t) => {
    if (lacks(t, 'root', process.getuid?.() === 0) || lacks(t, 'setpriv')) return
    const etc = mkdtempSync(join(tmpdir(), 'cvmd-etc-'))
    try {
      writeFileSync(`${etc}/passwd`, 'op:x:4711:4712::/home/op:/bin/sh\n')
      writeFileSync(`${etc}/group`, 'op:x:4712:\none:x:4713:op\ntwo:x:4714:x,op\n')
      const shell = 'id -u; id -G; echo $HOME'
      const config = v.parse(Config, { commands: { a: { shell, user: 'op' } } })
      const command = new Command('a', config.commands.a as CommandConfig, config)
      command.prepare(etc)
      const { stdout, done } = runProcess(command.spec(new Map()))
      await done
      assert.equal(stdout.text(), '4711\n4712 4713 4714\n/home/op\n')
    } finally {
      rmSync(etc, { recursive: true })
    }
  })

  it('does not start with a user that does not exist', async () => {
    const host = hostPlugin(actions, { commands: { a: { shell: 'id', user: 'no-such-user' } } })
    await assert.rejects(host.start(), {
      message:
        'Cannot run action "a" as user "no-such-user": no user "no-such-user" in /etc/passwd',
    })
    await host.stop()
  })

  it('says what does not exist', async () => {
    await hosted({ a: { shell: 'true' } }, async (host) => {
      const missing = '/cvmd/actions/runs/0123'
      assert.deepEqual(await refusal(post(host, '/cvmd/actions/b/runs')), [404, 'ACTION_NOT_FOUND'])
      assert.deepEqual(await refusal(host.request(missing)), [404, 'RUN_NOT_FOUND'])
      assert.deepEqual(await refusal(host.request(`${missing}/output`)), [404, 'RUN_NOT_FOUND'])
      assert.deepEqual(await refusal(host.request(missing, { method: 'DELETE' })), [
        404,
        'RUN_NOT_FOUND',
      ])
    })
  })
})

describe('action parameters', () => {
  const params = [
    { name: 'unit', pattern: '[a-z]+' },
    { name: 'text', pattern: '[^]*', required: false, default: '' },
  ]
  const argv = ['/usr/bin/printf', '[%s]', 'unit={unit}', '{text}', '{other}']

  it('arrive whole in argv and environment, whatever they contain', async () => {
    const marker = join(tmpdir(), `cvmd-param-${process.pid}`)
    const commands = {
      argv: { argv, params },
      env: { shell: 'printf "[%s]" "$PARAM_UNIT" "$PARAM_TEXT" \'{unit}\'', params },
    }
    await hosted(commands, async (host) => {
      for (const text of [
        '',
        `; touch ${marker}`,
        `$(touch ${marker})`,
        '{unit} a\n"b\' *',
        '-n',
      ]) {
        const given = { unit: 'nginx', text }
        assert.equal((await run(host, 'argv', given)).stdout, `[unit=nginx][${text}][{other}]`)
        assert.equal((await run(host, 'env', given)).stdout, `[nginx][${text}][{unit}]`)
      }
    })
    assert.equal(existsSync(marker), false)
  })

  it('are refused when unknown, missing or not matching', async () => {
    await hosted({ a: { argv, params } }, async (host) => {
      const start = (body?: object) => refusal(post(host, '/cvmd/actions/a/runs', body))
      assert.deepEqual(await start(), [422, 'PARAM_MISSING'])
      assert.deepEqual(await start({ params: { unit: 'a', x: 'y' } }), [422, 'PARAM_UNKNOWN'])
      for (const unit of ['', 'A', 'a\n', 'a b', 'a'.repeat(257)]) {
        assert.deepEqual(await start({ params: { unit } }), [422, 'PARAM_INVALID'])
      }
      const nul = { params: { unit: 'a', text: 'a\0b' } }
      assert.deepEqual(await start(nul), [422, 'PARAM_INVALID'])
      assert.deepEqual(await start({ params: { unit: 1 } }), [400, 'INVALID_REQUEST'])
      assert.deepEqual(await start({ parms: {} }), [400, 'INVALID_REQUEST'])
      const text = host.request('/cvmd/actions/a/runs', { method: 'POST', body: '{' })
      assert.deepEqual(await refusal(text), [400, 'INVALID_JSON'])
      assert.deepEqual(host.messages(), [])
      assert.equal((await host.request('/api/v1/actions/a')).status, 422)
    })
  })

  it('are not options by default', async () => {
    const one = { argv: ['/bin/echo', '{a}'], params: [{ name: 'a' }] }
    await hosted({ a: one }, async (host) => {
      const start = (a: string) => refusal(post(host, '/cvmd/actions/a/runs', { params: { a } }))
      assert.deepEqual(await start('-n'), [422, 'PARAM_INVALID'])
    })
  })

  it('stay out of events, logs and errors', async () => {
    const commands = {
      a: {
        argv: ['/bin/sh', '-c', 'echo "$0 $TOKEN" >&2; exit 1', '{text}'],
        env: { TOKEN: 'canary-env' },
        params: [{ name: 'text', pattern: 'canary-.*' }],
      },
    }
    await hosted(commands, async (host) => {
      const { stderr } = await run(host, 'a', { text: 'canary-param' })
      assert.equal(stderr, 'canary-param canary-env\n')
      assert.deepEqual(host.messages(), [
        '[system-api] executing action: a (params: text)',
        '[system-api] error executing action: a - error: exit status 1',
      ])
      const wrong = await post(host, '/cvmd/actions/a/runs', { params: { text: 'wrong-canary' } })
      assert.ok(!(await wrong.text()).includes('wrong-canary'))
      assert.ok(!(await host.metrics.render()).includes('canary'))
    })
  })

  it('replace placeholders once, inside their argument', () => {
    const name = fc.constantFrom('a', 'b', 'c_1')
    const piece = fc.oneof(
      fc.string().filter((text) => !/[{}]/.test(text)),
      name.map((text) => ({ text })),
    )
    fc.assert(
      fc.property(
        fc.array(fc.array(piece, { maxLength: 5 }), { maxLength: 5 }),
        fc.dictionary(name, fc.oneof(fc.string(), fc.constantFrom('{a}', '{b}', '$&', '$1'))),
        (parts, values) => {
          const known = new Map(Object.entries(values))
          const raw = (p: string | { text: string }) => (typeof p === 'string' ? p : `{${p.text}}`)
          const filled = (p: string | { text: string }) =>
            typeof p === 'string' ? p : (known.get(p.text) ?? `{${p.text}}`)
          assert.deepEqual(
            fillIn(
              parts.map((part) => part.map(raw).join('')),
              known,
            ),
            parts.map((part) => part.map(filled).join('')),
          )
        },
      ),
    )
  })
})

describe('action limits', () => {
  it('ends a run at its deadline, children that ignore TERM too', async () => {
    const shell = "trap '' TERM; sh -c 'while :; do sleep 1; done' & wait; wait"
    await hosted({ a: { shell, timeout_s: 0.8 } }, async (host) => {
      const { state, signal, timed_out, error } = await run(host, 'a')
      assert.deepEqual([state, signal, timed_out], ['killed', 'SIGKILL', true])
      assert.equal(error, 'deadline of 0.8 s passed: signal: killed')
      assert.match(
        await host.metrics.render(),
        /cvmd_action_runs_total\{action="a",outcome="timeout"\} 1/,
      )
      assert.equal((await run(host, 'a')).timed_out, true)
    })
  })

  it('is not held by a process that left the group', async () => {
    await hosted({ a: { shell: 'setsid sleep 20 & exit 0', timeout_s: 0.3 } }, async (host) => {
      const { state, exit_code, timed_out } = await run(host, 'a')
      assert.deepEqual([state, exit_code, timed_out], ['exited', 0, true])
    })
  })

  it('keeps the end of a flood', async () => {
    const a = { shell: 'head -c 50000000 /dev/zero | tr "\\0" x; echo end', max_output_bytes: 100 }
    await hosted({ a }, async (host) => {
      const { stdout, stdout_truncated } = await run(host, 'a')
      assert.deepEqual([stdout, stdout_truncated], [`${'x'.repeat(96)}end\n`, true])
    })
  })

  it('answers others during an endless flood', async () => {
    await hosted({ a: { shell: 'yes', timeout_s: 1 } }, async (host) => {
      const path = await begin(host, 'a')
      await until(async () => (await show(host, path)).stdout_truncated)
      await until(async () => (await show(host, path)).state === 'killed')
      const { stdout, timed_out } = await show(host, path)
      assert.deepEqual([stdout.length, timed_out], [65_536, true])
    })
  })

  it('refuses a second run, and frees the place', async () => {
    await hosted({ a: { shell: 'sleep 20' } }, async (host) => {
      const path = await begin(host, 'a')
      const second = await post(host, '/cvmd/actions/a/runs')
      assert.match(second.headers.get('retry-after') ?? '', /^[1-9]\d*$/)
      assert.deepEqual(await refusal(Promise.resolve(second)), [409, 'ACTION_BUSY'])
      const compatible = await host.request('/api/v1/actions/a')
      assert.equal(((await compatible.json()) as { code: number }).code, 409)
      const list = (await (await host.request('/cvmd/actions')).json()) as {
        actions: { busy: boolean; running: number }[]
      }
      assert.deepEqual([list.actions[0]?.busy, list.actions[0]?.running], [true, 1])
      assert.match(await host.metrics.render(), /cvmd_actions_running\{action="a"\} 1/)
      await host.request(path, { method: 'DELETE' })
      await until(async () => (await show(host, path)).state === 'killed')
      await begin(host, 'a')
    })
  })

  it('queues where it is told to, in order', async () => {
    await hosted({ a: { shell: 'sleep 20', queue: 2 } }, async (host) => {
      const paths = [await begin(host, 'a'), await begin(host, 'a'), await begin(host, 'a')]
      assert.deepEqual(await refusal(post(host, '/cvmd/actions/a/runs')), [409, 'ACTION_BUSY'])
      const [first = '', second = '', third = ''] = paths
      assert.equal((await show(host, second)).state, 'queued')
      const cancelled = await host.request(second, { method: 'DELETE' })
      assert.equal(cancelled.status, 200)
      const { state, error, started_at } = (await cancelled.json()) as Doc
      assert.deepEqual([state, started_at], ['failed', null])
      assert.equal(error, 'cancelled before it started')
      assert.equal((await show(host, third)).state, 'queued')
      await host.request(first, { method: 'DELETE' })
      await until(async () => (await show(host, third)).state === 'running')
      assert.equal((await show(host, first)).state, 'killed')
      assert.deepEqual(paths, paths.toSorted())
    })
  })

  it('bounds the history by number and bytes', async () => {
    const shell = 'head -c 1000 /dev/zero'
    const commands = { a: { shell }, b: { shell: 'true' } }
    const count = async (host: PluginHost) =>
      ((await (await host.request('/cvmd/actions/runs')).json()) as { runs: [] }).runs.length
    await hosted(
      commands,
      async (host) => {
        for (let i = 0; i < 5; i++) await run(host, 'b')
        assert.equal(await count(host), 3)
      },
      { config: { max_runs: 3 } },
    )
    await hosted(
      commands,
      async (host) => {
        for (let i = 0; i < 5; i++) await run(host, 'a')
        assert.equal(await count(host), 2)
      },
      { config: { max_history_bytes: 2500 } },
    )
  })

  it('cancels with TERM, then KILL, and only once', async () => {
    const commands = {
      soft: { shell: 'echo up; sleep 20' },
      hard: { shell: "trap '' TERM; echo up; while :; do sleep 1; done" },
      nice: { shell: "trap 'exit 0' TERM; echo up; sleep 20 & wait" },
    }
    await hosted(commands, async (host) => {
      for (const [name, signal, words] of [
        ['soft', 'SIGTERM', 'cancelled: signal: terminated'],
        ['hard', 'SIGKILL', 'cancelled: signal: killed'],
        ['nice', null, 'cancelled: exit status 0'],
      ] as const) {
        const path = await begin(host, name)
        await until(async () => (await show(host, path)).stdout !== '')
        for (let i = 0; i < 2; i++) {
          assert.equal((await host.request(path, { method: 'DELETE' })).status, 202)
        }
        await until(async () => (await show(host, path)).finished_at !== null)
        const run = await show(host, path)
        assert.deepEqual([run.signal, run.cancelled, run.error], [signal, true, words])
        assert.equal((await host.request(path, { method: 'DELETE' })).status, 200)
        const events = host.messages().filter((text) => text.endsWith(`cancelling action: ${name}`))
        assert.equal(events.length, 1)
      }
    })
  })

  it('ends every run when it stops, and starts none after', async () => {
    const commands = {
      hang: { shell: "trap '' TERM; while :; do sleep 1; done", timeout_s: 0, queue: 1 },
      old: { shell: 'sleep 60', system_api: true },
    }
    const host = hostPlugin(actions, { grace_s: 0.2, commands })
    await host.start()
    await begin(host, 'hang')
    await begin(host, 'hang')
    const answer = host.request('/api/v1/actions/old')
    await sleep(100)
    await host.stop()
    assert.equal((await answer).status, 500)
    assert.deepEqual(await refusal(post(host, '/cvmd/actions/hang/runs')), [503, 'SHUTTING_DOWN'])
    const { runs } = (await (await host.request('/cvmd/actions/runs')).json()) as { runs: Doc[] }
    assert.deepEqual(
      runs.map(({ finished_at, state }) => [finished_at !== null || state === 'failed']),
      [[true], [true], [true]],
    )
    await host.stop()
  })

  it('runs 300 short actions and leaves no zombie', async () => {
    await hosted({ a: { argv: ['/bin/true'], concurrency: 20 } }, async (host) => {
      for (let round = 0; round < 15; round++) {
        const states = await Promise.all(
          Array.from({ length: 20 }, async () => (await run(host, 'a')).state),
        )
        assert.ok(states.every((state) => state === 'exited'))
      }
      assert.deepEqual(zombieChildren(), [])
    })
  })
})

describe('action output', () => {
  const shell = 'echo one; echo warn >&2; sleep 0.3; printf "two\\r\\nthree"'

  it('follows both streams as plain text', async () => {
    await hosted({ a: { shell } }, async (host) => {
      const path = await begin(host, 'a')
      const response = await host.request(`${path}/output`)
      assert.equal(response.headers.get('content-type'), 'text/plain; charset=utf-8')
      const text = await response.text()
      assert.ok(text.endsWith('two\r\nthree'))
      assert.deepEqual(text.slice(0, -10).trim().split('\n').sort(), ['one', 'warn'])
      const again = await host.request(`${path}/output?stream=stderr`)
      assert.equal(await again.text(), 'warn\n')
      assert.deepEqual(await refusal(host.request(`${path}/output?stream=all`)), [
        400,
        'INVALID_REQUEST',
      ])
    })
  })

  it('follows as server-sent events', async () => {
    await hosted({ a: { shell } }, async (host) => {
      const path = await begin(host, 'a')
      const headers = { accept: 'text/event-stream' }
      const response = await host.request(`${path}/output`, { headers })
      assert.equal(response.headers.get('content-type'), 'text/event-stream')
      const events = (await response.text())
        .trim()
        .split('\n\n')
        .map((block) => {
          const [event = '', data = ''] = block.split('\n')
          return {
            event: event.slice(7),
            data: JSON.parse(data.slice(6)) as Record<string, string>,
          }
        })
      const text = (name: string) =>
        events.map(({ event, data }) => (event === name ? data.text : '')).join('')
      assert.deepEqual([text('stdout'), text('stderr')], ['one\ntwo\r\nthree', 'warn\n'])
      assert.equal(events.at(-1)?.event, 'end')
      assert.equal(events.at(-1)?.data.state, 'exited')
    })
  })

  it('puts split characters together', async () => {
    const split = "printf '\\342\\202'; sleep 0.2; printf '\\254'"
    await hosted({ a: { shell: split } }, async (host) => {
      const headers = { accept: 'text/event-stream' }
      const response = await host.request(`${await begin(host, 'a')}/output`, { headers })
      const text = await response.text()
      assert.ok(text.includes('{"text":"€"}') && !text.includes('\uFFFD'))
    })
  })

  it('tells a slow reader what it missed', async () => {
    const gate = join(tmpdir(), `cvmd-gate-${process.pid}`)
    const flood = `printf 0123456789; until [ -e ${gate} ]; do sleep 0.02; done; head -c 5000 /dev/zero`
    await hosted({ a: { shell: flood, max_output_bytes: 100 } }, async (host) => {
      const path = await begin(host, 'a')
      const response = await host.request(`${path}/output`)
      const reader = response.body?.getReader()
      const first = await reader?.read()
      assert.equal(new TextDecoder().decode(first?.value), '0123456789')
      writeFileSync(gate, '')
      await until(async () => (await show(host, path)).state === 'exited')
      rmSync(gate)
      const next = await reader?.read()
      assert.equal(new TextDecoder().decode(next?.value), '[cvmd: 4900 bytes of stdout dropped]\n')
      await reader?.cancel()
    })
  })

  it('is followed by a limited number of readers, who may leave', async () => {
    await hosted({ a: { shell: 'sleep 20' } }, async (host) => {
      const path = `${await begin(host, 'a')}/output`
      const open = await Promise.all(Array.from({ length: 64 }, () => host.request(path)))
      assert.ok(open.every(({ status }) => status === 200))
      assert.deepEqual(await refusal(host.request(path)), [429, 'TOO_MANY_FOLLOWERS'])
      await open[0]?.body?.cancel()
      assert.equal((await host.request(path, { method: 'HEAD' })).status, 405)
      const free = await host.request(path)
      assert.equal(free.status, 200)
      const reader = free.body?.getReader()
      const pending = reader?.read()
      await reader?.cancel()
      assert.equal((await pending)?.done, true)
    })
  })
})

describe('action scopes', () => {
  it('keep a key to its own action', async () => {
    const commands = { mine: { shell: 'echo a' }, other: { shell: 'echo b' } }
    const scopes = ['actions:read', 'actions:run:mine', 'actions:run:other']
    const caller = { kind: 'key', name: 'k', scopes }
    const host = hostPlugin(
      actions,
      { commands },
      { guard: { authenticate: () => ({ ...caller, kind: 'key' }) } },
    )
    await host.start()
    const mine = await run(host, 'mine')
    const other = await run(host, 'other')
    scopes.pop()
    const { runs } = (await (await host.request('/cvmd/actions/runs')).json()) as { runs: Doc[] }
    assert.deepEqual(
      runs.map(({ id }) => id),
      [mine.id],
    )
    const path = `/cvmd/actions/runs/${other.id}`
    assert.equal((await host.request(`/cvmd/actions/runs/${mine.id}`)).status, 200)
    assert.deepEqual(await refusal(host.request(path)), [403, 'SCOPE_MISSING'])
    assert.deepEqual(await refusal(host.request(`${path}/output`)), [403, 'SCOPE_MISSING'])
    const cancel = host.request(path, { method: 'DELETE' })
    assert.deepEqual(await refusal(cancel), [403, 'SCOPE_MISSING'])
    assert.deepEqual(await refusal(post(host, '/cvmd/actions/other/runs')), [403, 'SCOPE_MISSING'])
    // A name is granted as it is sent and as it decodes.
    const spelled = post(host, '/cvmd/actions/m%69ne/runs')
    assert.deepEqual(await refusal(spelled), [403, 'SCOPE_MISSING'])
    await host.stop()
  })
})
