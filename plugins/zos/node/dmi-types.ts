/**
 * Names of DMI types by number, as the reference spells them (spec §9.4): 28 and 36 too, which
 * clients compare.
 */
const NAMES = [
  'BIOS',
  'System',
  'Baseboard',
  'Chassis',
  'Processor',
  'MemoryController',
  'MemoryModule',
  'Cache',
  'PortConnector',
  'SystemSlots',
  'OnBoardDevices',
  'OEMSettings',
  'SystemConfigurationOptions',
  'BIOSLanguage',
  'GroupAssociations',
  'SystemEventLog',
  'PhysicalMemoryArray',
  'MemoryDevice',
  '32BitMemoryError',
  'MemoryArrayMappedAddress',
  'MemoryDeviceMappedAddress',
  'BuiltinPointingDevice',
  'PortableBattery',
  'SystemReset',
  'HardwareSecurity',
  'SystemPowerControls',
  'VoltageProbe',
  'CoolingDevice',
  'TempratureProbe',
  'ElectricalCurrentProbe',
  'OutOfBandRemoteAccess',
  'BootIntegrityServices',
  'SystemBoot',
  '64BitMemoryError',
  'ManagementDevice',
  'ManagementDeviceComponent',
  'ManagementThresholdData',
  'MemoryChannel',
  'IPMIDevice',
  'PowerSupply',
  'AdditionalInformation',
  'OnboardDeviceExtendedInformation',
  'ManagementControllerHostInterface',
] as const

/** What a DMI type is called. */
export function dmiTypeName(type: number): string {
  return NAMES[type] ?? `Custom Type ${type}`
}
