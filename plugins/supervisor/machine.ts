import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import type { Config } from './config.ts'
import { Addresses } from './host/addresses.ts'
import { type DeviceInfo, readDeviceInfo } from './host/device-info.ts'
import { HostConfig } from './host/host-config.ts'
import { Journal } from './host/journal.ts'
import { Led } from './host/led.ts'
import { Power } from './host/power.ts'
import { Systemd } from './host/systemd.ts'
import { DeviceTags } from './host/tags.ts'
import { vpnStatus } from './host/vpn.ts'

/** The rooms about the machine, over the paths and commands of the configuration. */
export function createMachine(
  config: Config,
  stateDir: string,
  uuid: () => string,
  warn: (message: string) => void,
) {
  const { machine } = config
  const at = (path: string) => join(machine.root, path)
  const systemd = new Systemd({ systemctl: machine.systemctl, dryRun: machine.dry_run })
  const hostConfig = new HostConfig({
    proxyFolder: at(machine.proxy_dir),
    hostname: {
      file: at(machine.hostname_file),
      // The running name is this machine's, whatever stands for its root.
      kernelFile: machine.root === '/' ? '/proc/sys/kernel/hostname' : undefined,
    },
    uuid,
    systemd,
  })
  let info: Promise<DeviceInfo> | undefined
  return {
    power: new Power({
      commands: { reboot: machine.reboot, shutdown: machine.shutdown },
      dryRun: machine.dry_run,
      breadcrumbFolder: at(machine.breadcrumb_dir),
    }),
    led: new Led({ file: at(machine.led_file) }),
    hostConfig: machine.dry_run ? readOnly(hostConfig) : hostConfig,
    journal: new Journal({ journalctl: machine.journalctl }),
    addresses: new Addresses({
      interfaces: networkInterfaces,
      netFolder: at('/sys/class/net'),
    }),
    tags: new DeviceTags(join(stateDir, 'tags.json'), warn),
    vpn: () =>
      vpnStatus({ statusFolder: at(machine.vpn_status_dir), unit: machine.vpn_unit, systemd }),
    info: () => {
      info ??= readDeviceInfo({
        root: machine.root,
        arch: process.arch,
        deviceType: config.device.type,
      })
      return info
    },
  }
}

/** Takes every change and makes none. */
function readOnly(hostConfig: HostConfig): Pick<HostConfig, 'start' | 'read' | 'patch'> {
  return {
    start: () => hostConfig.start(),
    read: () => hostConfig.read(),
    patch: async () => ({
      changed: [],
      warnings: ['host configuration left as it is: machine.dry_run is set'],
    }),
  }
}
