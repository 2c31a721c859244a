// A process that provisions a machine as a daemon does, for tests that kill it: prints `ready`.
import type { CloudHypervisorOptions } from '../../plugins/zos/drivers/cloud-hypervisor/driver.ts'
import { createCloudHypervisorDriver } from '../../plugins/zos/drivers/cloud-hypervisor/driver.ts'
import { machineTask } from './zos-hypervisor.ts'

const options: CloudHypervisorOptions = JSON.parse(process.env.MACHINE_OPTIONS ?? '{}')
const driver = createCloudHypervisorDriver('zmachine', options)
driver.provision(machineTask(options)).then(
  () => {
    console.log('ready')
    // Until it is killed, but not for ever.
    setTimeout(() => {}, 120_000)
  },
  (error) => {
    console.log(error)
    process.exit(1)
  },
)
