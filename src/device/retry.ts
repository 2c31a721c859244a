import { DeviceError } from './transport.ts'

/** What a device says when the next try may well succeed (spec tdx §10). */
const TRANSIENT = new Set(['EBUSY', 'EINTR'])

/** Time a busy device gets before it is asked again. */
const PAUSE_MS = 100

/**
 * Repeats work once when the device was busy or the call was interrupted. Only for work that may
 * be done twice.
 */
export async function retriedOnce<T>(work: () => Promise<T>, abandoned?: AbortSignal): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof DeviceError) || !TRANSIENT.has(error.code)) throw error
    if (error.code === 'EBUSY') await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    if (abandoned?.aborted) throw error
    return await work()
  }
}
