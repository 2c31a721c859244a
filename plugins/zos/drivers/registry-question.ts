import { isOkay } from '../model.ts'
import { DriverError, type Task } from './driver.ts'

/**
 * Asks the registry about a workload. While it cannot be asked, a workload that was up stays as it was,
 * and any other one waits.
 *
 * @param before What holds for one that was up.
 * @throws {DriverError} `transient`; what the registry said is the operator's matter.
 */
export async function askRegistry<T>(
  { workload, resultOf }: Pick<Task, 'workload' | 'resultOf'>,
  question: () => Promise<T>,
  before: T,
): Promise<T> {
  try {
    return await question()
  } catch (cause) {
    const result = resultOf(workload.name)
    if (result && isOkay(result)) return before
    throw new DriverError('transient', 'the registry cannot be asked now', { cause })
  }
}
