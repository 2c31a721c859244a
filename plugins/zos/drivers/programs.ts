/** Programs that disks and volumes need, for a list of permissions. */
export const STORAGE_PROGRAMS = [
  'btrfs',
  'e2fsck',
  'losetup',
  'mkfs.btrfs',
  'mkfs.ext4',
  'mount',
  'readlink',
  'resize2fs',
  'rm',
  'umount',
] as const

/** Those of public addresses. */
export const IP_PROGRAMS = ['ip', 'nft'] as const

/** Those of networks of the host. */
export const NETWORK_PROGRAMS = ['ip', 'nft', 'sysctl', 'wg', 'wireguard-go'] as const

/** Those that tell of the node. */
export const NODE_PROGRAMS = ['dmidecode', 'virt-what', 'zinit', 'wg', 'nvidia-smi'] as const
