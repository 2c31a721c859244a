import { DMI_DECODER } from './dmi.ts'
import { dmiTypeName } from './dmi-types.ts'
import type { Dmi, DmiSection } from './facts.ts'
import type { HostFiles } from './host-files.ts'

/** Where the kernel shows some of it to everybody (ABI/testing/sysfs-class-dmi). */
const FOLDER = '/sys/class/dmi/id'

/** Types 0 to 3: their title, and by the names of dmidecode(8) the files of the kernel. */
const SECTIONS = [
  [
    'BIOS Information',
    {
      Vendor: 'bios_vendor',
      Version: 'bios_version',
      'Release Date': 'bios_date',
      'BIOS Revision': 'bios_release',
      'Firmware Revision': 'ec_firmware_release',
    },
  ],
  [
    'System Information',
    {
      Manufacturer: 'sys_vendor',
      'Product Name': 'product_name',
      Version: 'product_version',
      'Serial Number': 'product_serial',
      UUID: 'product_uuid',
      'SKU Number': 'product_sku',
      Family: 'product_family',
    },
  ],
  [
    'Base Board Information',
    {
      Manufacturer: 'board_vendor',
      'Product Name': 'board_name',
      Version: 'board_version',
      'Serial Number': 'board_serial',
      'Asset Tag': 'board_asset_tag',
    },
  ],
  [
    'Chassis Information',
    {
      Manufacturer: 'chassis_vendor',
      Type: 'chassis_type',
      Version: 'chassis_version',
      'Serial Number': 'chassis_serial',
      'Asset Tag': 'chassis_asset_tag',
    },
  ],
] as const

/**
 * What the kernel tells of types 0 to 3, for machines where dmidecode(8) is missing or may not read.
 * Files that are not readable, as serial numbers are for others than root, are left out, and so is a
 * section without any; the handles are made up. Never throws.
 */
export async function readSysfsDmi(files: HostFiles): Promise<Dmi> {
  const all = await Promise.all(
    SECTIONS.map(async ([title, names], type): Promise<DmiSection | undefined> => {
      const read = Object.entries(names).map(async ([key, file]) => {
        const value = await files.word(`${FOLDER}/${file}`)
        return value === undefined ? [] : [[key, { value }] as const]
      })
      const properties = Object.fromEntries((await Promise.all(read)).flat())
      if (Object.keys(properties).length === 0) return undefined
      const handleline = `Handle 0x000${type}, DMI type ${type}`
      const subsections = [{ title, properties }]
      return { handleline, typestr: dmiTypeName(type), typenum: type, subsections }
    }),
  )
  const sections = all.filter((section) => section !== undefined)
  return { tooling: { aggregator: FOLDER, decoder: DMI_DECODER }, sections }
}
