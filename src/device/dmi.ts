import type { Transport } from './transport.ts'

/** Where the kernel shows what the firmware says of the machine (ABI/testing/sysfs-class-dmi). */
const DMI = '/sys/class/dmi/id'

const MAX_BYTES = 4096

/**
 * Who sells the machine and what it is called; empty where it cannot be read. Never throws.
 *
 * The host writes these, so nothing may be decided by them.
 */
export async function readCloud(
  transport: Transport,
): Promise<{ readonly vendor: string; readonly product: string }> {
  const field = async (name: string) => {
    try {
      return Buffer.from(await transport.read(`${DMI}/${name}`, MAX_BYTES))
        .toString()
        .trim()
    } catch {
      return ''
    }
  }
  const [vendor, product] = await Promise.all([field('sys_vendor'), field('product_name')])
  return { vendor, product }
}
