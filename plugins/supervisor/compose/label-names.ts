/*
 * Labels that are written on containers, networks and volumes (spec §11), and our own.
 */

/** An object with this label, whatever its value, is a supervisor's. */
export const SUPERVISED = 'io.balena.supervised'
export const APP_ID = 'io.balena.app-id'
export const APP_UUID = 'io.balena.app-uuid'
export const SERVICE_ID = 'io.balena.service-id'
export const SERVICE_NAME = 'io.balena.service-name'
/** On networks with addresses of their own. */
export const PRIVATE_IPAM = 'io.balena.private.ipam.config'

/** SHA-256 of what was asked for, 64 hex digits: the identity of a container, network or volume. */
export const HASH = 'io.cvmd.supervisor.hash'
/** What was asked for, field by field, each masked: tells later what changed. */
export const FIELDS = 'io.cvmd.supervisor.fields'
/** The engine's id of the image a container was made from. */
export const MADE_FROM = 'io.cvmd.supervisor.image'
/** Id of the container whose network it shares. */
export const NETWORK_OF = 'io.cvmd.supervisor.network-of'
