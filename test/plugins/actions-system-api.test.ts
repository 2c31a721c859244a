import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import actions from '../../plugins/actions/index.ts'
import { systemApiError } from '../../src/compat/system-api.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'

const OK = '{"message":"Action executed successfully"}\n'

/** Commands as the system-api adapter writes them. */
function translated(commands: Record<string, string>, more: object = {}): object {
  const entries = Object.entries(commands)
  return {
    ...more,
    commands: Object.fromEntries(
      entries.map(([name, shell]) => [name, { shell, system_api: true }]),
    ),
  }
}

async function hosted(
  config: object,
  work: (host: PluginHost) => Promise<void>,
  scopes: readonly string[] = ['*'],
): Promise<void> {
  const caller = { kind: 'key', name: 'k', scopes } as const
  const host = hostPlugin(actions, config, { guard: { authenticate: () => caller } })
  await host.start()
  try {
    await work(host)
  } finally {
    await host.stop()
  }
}

describe('system-api actions', () => {
  let host: PluginHost
  before(async () => {
    host = hostPlugin(
      actions,
      translated({
        echo_test: 'echo test',
        fails: 'echo one >&2; echo two >&2; exit 7',
        kills: 'kill -9 $$',
        terms: 'kill -TERM $$',
        empty: '',
        reads: 'cat',
        'with space': 'true',
        zürich: 'true',
        'a<b>&c': 'exit 1',
        'slash/name': 'true',
        inherits: '(sleep 0.4) & exit 0',
        env: 'test "$CVMD_TEST_RUNTIME" != ""',
      }),
      { renderError: systemApiError },
    )
    await host.start()
  })
  after(() => host.stop())

  const get = async (path: string, init?: RequestInit) => {
    const seen = host.messages().length
    const response = await host.request(path, init)
    return {
      status: response.status,
      type: response.headers.get('content-type'),
      body: await response.text(),
      events: host.messages().slice(seen),
    }
  }

  it('answers success', async () => {
    assert.deepEqual(await get('/api/v1/actions/echo_test'), {
      status: 200,
      type: 'application/json',
      body: OK,
      events: [
        '[system-api] executing action: echo_test = echo test',
        '[system-api] executing action success: echo_test = echo test',
      ],
    })
  })

  it('answers POST the same way', async () => {
    const { status, body } = await get('/api/v1/actions/echo_test', { method: 'POST', body: 'x' })
    assert.deepEqual([status, body], [200, OK])
  })

  it('answers an unknown name', async () => {
    assert.deepEqual(await get('/api/v1/actions/nope'), {
      status: 400,
      type: 'application/json',
      body: '{"code":400,"message":"Specified action not configured"}\n',
      events: [],
    })
  })

  it('answers a failure, with stderr in the event only', async () => {
    assert.deepEqual(await get('/api/v1/actions/fails'), {
      status: 500,
      type: 'application/json',
      body: '{"code":500,"message":"Failed to execute action: fails - error: exit status 7"}\n',
      events: [
        '[system-api] executing action: fails = echo one >&2; echo two >&2; exit 7',
        '[system-api] error executing action: fails - error: exit status 7 (stderr: one\ntwo\n)',
      ],
    })
  })

  it('names signals in words', async () => {
    assert.ok((await get('/api/v1/actions/kills')).body.includes('error: signal: killed"'))
    assert.ok((await get('/api/v1/actions/terms')).body.includes('error: signal: terminated"'))
  })

  it('runs an empty command, and one that reads stdin, to success', async () => {
    assert.equal((await get('/api/v1/actions/empty')).body, OK)
    assert.equal((await get('/api/v1/actions/reads')).body, OK)
  })

  it('finds names as sent', async () => {
    assert.equal((await get('/api/v1/actions/with%20space')).status, 200)
    assert.equal((await get('/api/v1/actions/z%C3%BCrich')).status, 200)
    assert.equal((await get('/api/v1/actions/%65cho_test')).status, 400)
    assert.equal((await get('/api/v1/actions/slash%2Fname')).status, 400)
    assert.equal((await get('/api/v1/actions/slash/name')).status, 404)
    assert.equal((await get('/api/v1/actions/')).status, 404)
    assert.equal((await get('/api/v1/actions/constructor')).status, 400)
    assert.equal((await get('/api/v1/actions/__proto__')).status, 400)
  })

  it('never lets a name reach the shell', async () => {
    const marker = join(tmpdir(), `cvmd-marker-${process.pid}`)
    for (const name of [
      `;touch ${marker}`,
      `$(touch ${marker})`,
      `\`touch ${marker}\``,
      '&&',
      '|',
    ]) {
      assert.equal((await get(`/api/v1/actions/${encodeURIComponent(name)}`)).status, 400)
    }
    assert.equal(existsSync(marker), false)
  })

  it('escapes names as Go does', async () => {
    const { body } = await get(`/api/v1/actions/a%3Cb%3E&c`)
    assert.ok(body.includes('action: a\\u003cb\\u003e\\u0026c - error: exit status 1"'))
  })

  it('refuses other methods, HEAD too', async () => {
    for (const method of ['HEAD', 'PUT', 'OPTIONS', 'DELETE']) {
      const response = await host.request('/api/v1/actions/echo_test', { method })
      assert.deepEqual([response.status, await response.text()], [405, ''])
    }
  })

  it('refuses a page of another site', async () => {
    const { status, events } = await get('/api/v1/actions/echo_test', {
      headers: { referer: 'https://evil.example/' },
    })
    assert.deepEqual([status, events], [403, []])
  })

  it('refuses a key without the scope, in the same dialect', async () => {
    await hosted(
      translated({ echo_test: 'true', fails: 'false' }),
      async (limited) => {
        const response = await limited.request('/api/v1/actions/echo_test')
        assert.equal(response.status, 403)
        assert.equal(((await response.json()) as { code: number }).code, 403)
        assert.deepEqual(limited.messages(), [])
        assert.equal((await limited.request('/api/v1/actions/fails')).status, 500)
      },
      ['actions:run:fails'],
    )
  })

  it('shows the first event before the command ends', async () => {
    const seen = host.messages().length
    const started = performance.now()
    const answer = host.request('/api/v1/actions/inherits')
    while (host.messages().length === seen) await sleep(1)
    assert.deepEqual(host.messages().slice(seen), [
      '[system-api] executing action: inherits = (sleep 0.4) & exit 0',
    ])
    await answer
    assert.ok(performance.now() - started > 350, 'waits for those who inherited the output')
  })

  it('runs an action any number of times at once', async () => {
    const answers = Array.from({ length: 8 }, () => host.request('/api/v1/actions/inherits'))
    for (const { status } of await Promise.all(answers)) assert.equal(status, 200)
  })

  it('passes the whole environment on', async () => {
    assert.equal((await get('/api/v1/actions/env')).status, 200)
  })
})

describe('system-api shells', () => {
  const failure = async (shell: string) => {
    let message = ''
    await hosted(translated({ a: 'true' }, { shell }), async (host) => {
      const response = await host.request('/api/v1/actions/a')
      assert.equal(response.status, 500)
      message = ((await response.json()) as { message: string }).message
      assert.equal(
        host.messages().at(-1),
        `[system-api] error executing action: a - error: ${message.split('error: ')[1]} (stderr: )`,
      )
    })
    return message.replace('Failed to execute action: a - error: ', '')
  }

  it('that cannot be started', async () => {
    assert.equal(await failure('/nope/sh'), 'fork/exec /nope/sh: no such file or directory')
    assert.equal(await failure('/tmp'), 'fork/exec /tmp: permission denied')
    assert.equal(await failure(''), 'exec: no command')
    assert.equal(
      await failure('no-such-shell'),
      'exec: "no-such-shell": executable file not found in $PATH',
    )
  })

  it('are called with -c and the string', async () => {
    await hosted(translated({ a: 'x "y" $z' }, { shell: '/bin/echo' }), async (host) => {
      await host.request('/api/v1/actions/a')
      const list = await host.request('/cvmd/actions/runs')
      const { runs } = (await list.json()) as { runs: { id: string }[] }
      const run = await host.request(`/cvmd/actions/runs/${runs[0]?.id}`)
      assert.equal(((await run.json()) as { stdout: string }).stdout, '-c x "y" $z\n')
    })
  })
})
