import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { lacks } from './helpers/counterpart.ts'
import { startDaemon, unixRequest } from './helpers/daemon.ts'

const RECEIVER = `
use Socket;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die;
bind($s, sockaddr_un($ARGV[0])) or die;
$| = 1; print "bound\\n";
while (defined recv($s, my $m, 65536, 0)) { $m =~ s/\\n/ /g; print "$m\\n"; }
`

test('the service manager hears of start, watchdog, reload and stop', async (t) => {
  if (lacks(t, 'perl') || lacks(t, 'systemd-notify')) return
  const daemon0 = await startDaemon({ config: '[[listen]]\nunix = "{folder}/run/a.sock"\n' })
  const { folder } = daemon0
  const socket = join(folder, 'notify')
  const receiver = spawn('perl', ['-e', RECEIVER, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
  let heard = ''
  receiver.stdout.on('data', (data) => {
    heard += data
  })
  const until = async (text: string) => {
    for (let i = 0; i < 300 && !heard.includes(text); i++) {
      await new Promise((tick) => setTimeout(tick, 20))
    }
    assert.ok(heard.includes(text), `"${text}" never came:\n${heard}`)
  }
  try {
    await until('bound')
    const daemon = await startDaemon({
      config: '[[listen]]\nunix = "{folder}/run/cvmd.sock"\n',
      env: { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '400000', JOURNAL_STREAM: '1:2' },
    })
    await until('READY=1')
    await until('WATCHDOG=1')
    await unixRequest(daemon.socket, '/cvmd/reload', { method: 'POST' })
    await until('RELOADING=1')
    assert.equal(await daemon.stop(), 0)
    await until('STOPPING=1')
    assert.match(daemon.output(), /^<6>\[cvmd\] Listening on unix:/m)
  } finally {
    receiver.kill()
    await daemon0.stop()
  }
})
