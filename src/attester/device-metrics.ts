import type { QueueObserver } from '../device/queue.ts'
import type { Metrics } from '../metrics.ts'

/** Counts device calls by device and outcome; times go into a histogram per device. */
export function deviceObserver(metrics: Metrics): (device: string) => QueueObserver {
  const calls = metrics.counter('cvmd_device_calls_total', 'Calls to devices, by outcome.')
  const waited = metrics.histogram('cvmd_device_wait_seconds', 'Time calls waited for a device.')
  const took = metrics.histogram('cvmd_device_service_seconds', 'Time a device took for a call.')
  return (device) => ({
    call: (outcome) => calls.inc({ device, outcome }),
    served: (waitMs, serviceMs) => {
      waited.observe(waitMs / 1000, { device })
      took.observe(serviceMs / 1000, { device })
    },
  })
}
