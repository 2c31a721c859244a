import { defineCommand } from 'citty'
export const plugin = defineCommand({ meta: { name: 'plugin', description: '' } })
