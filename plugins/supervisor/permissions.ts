import { dirname, join } from 'node:path'
import type { Permissions } from '../../src/plugin.ts'
import type { Config } from './config.ts'
import { PASSED_ON } from './host/command.ts'

/** What the plugin touches with a configuration. */
export function permissions(config: Config): Permissions {
  const { machine } = config
  const at = (path: string) => join(machine.root, path)
  const urls = [config.target_url?.url, config.report?.url]
  const peers = Object.values(config.peers)
  const secrets = [
    config.master,
    config.target_url?.token,
    config.report?.token,
    ...Object.values(config.registries).map(({ password }) => password),
    ...peers.map(({ key }) => key),
  ]
  const commands = [machine.reboot, machine.shutdown, machine.systemctl, machine.journalctl]
  const changed = machine.dry_run ? [] : [at(machine.proxy_dir), at(machine.hostname_file)]
  return {
    read: [
      config.engine_socket,
      at('/etc/os-release'),
      at('/usr/lib/os-release'),
      at('/sys/class/net'),
      at(machine.breadcrumb_dir),
      at(machine.vpn_status_dir),
      at(machine.proxy_dir),
      at(machine.hostname_file),
      dirname(config.lock_dir),
      '/proc/sys/kernel/random/boot_id',
      ...(config.target_file === undefined ? [] : [config.target_file]),
      ...secrets.flatMap((secret) => secret?.file ?? []),
    ].filter((path) => path.startsWith('/')),
    write: [config.engine_socket, dirname(config.lock_dir), at(machine.led_file), ...changed],
    net: [
      `unix:${config.engine_socket}`,
      ...[...urls, ...peers.map(({ url }) => url)].flatMap((url) => (url ? hostOf(url) : [])),
    ],
    run: [...new Set([...commands.flatMap(([program]) => program ?? []), '/bin/kill'])],
    // The last one is read by Deno itself whenever it starts a process.
    env: [...PASSED_ON, 'NODE_V8_COVERAGE'],
  }
}

/** `host:port`, the port also where the URL leaves it out. */
function hostOf(url: string): string {
  const { hostname, port, protocol } = new URL(url)
  return `${hostname}:${port || (protocol === 'https:' ? '443' : '80')}`
}
