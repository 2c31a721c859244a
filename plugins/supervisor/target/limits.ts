/*
 * Limits of a target state. They are far above what a device runs, and keep what a caller can make
 * the daemon hold and work on bounded. Lengths are UTF-16 units.
 */

export const MAX_APPS = 64
/** Per app. */
export const MAX_SERVICES = 512
/** Networks or volumes, per app. */
export const MAX_OBJECTS = 512
/** Variables or labels, of one service. */
export const MAX_VARIABLES = 2048
/** Of one list or map in a composition. */
export const MAX_ITEMS = 1024
/** Ports of one service, ranges taken apart. */
export const MAX_PORTS = 4096
/** Alternatives within alternatives of a contract. */
export const MAX_CONTRACT_DEPTH = 4

export const MAX_NAME = 255
/** One argument or one variable of a process under Linux: MAX_ARG_STRLEN, 32 pages. */
export const MAX_VALUE = 131_072
/** A path, an option, an address. */
export const MAX_WORD = 4096

/** What is reported of each kind; more are counted. */
export const MAX_PROBLEMS = 100
