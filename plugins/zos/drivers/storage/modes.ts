/** Only the owner: disks and volumes are nobody else's business, and machines get them mounted. */
export const PRIVATE = 0o700

/** Of the folder that a machine sees, as the root of any file system has it. */
export const VISIBLE = 0o755
