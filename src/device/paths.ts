/** Where the kernel shows attestation devices; nothing else in cvmd knows these paths. */

/** configfs-tsm: one folder per report in the making (Documentation/ABI/testing/configfs-tsm-report). */
export const TSM_REPORT = '/sys/kernel/config/tsm/report'

/** TDREPORT by ioctl (include/uapi/linux/tdx-guest.h), Linux 6.2 or later. */
export const TDX_GUEST = '/dev/tdx_guest'

/** MRTD and RTMRs, Linux 6.16 or later (ABI/testing/sysfs-devices-virtual-misc-tdx_guest). */
export const TDX_MEASUREMENTS = '/sys/devices/virtual/misc/tdx_guest/measurements'

/** The ACPI table that describes the boot event log, and the log area it points to. */
export const CCEL_TABLE = '/sys/firmware/acpi/tables/CCEL'
export const CCEL_LOG = '/sys/firmware/acpi/tables/data/CCEL'

/** The Nitro Secure Module (drivers/misc/nsm.c). */
export const NSM = '/dev/nsm'

/** One folder per PCI slot (Documentation/ABI/testing/sysfs-bus-pci). */
export const PCI_DEVICES = '/sys/bus/pci/devices'
