import { defineCommand } from 'citty'
export const permissions = defineCommand({ meta: { name: 'permissions', description: '' } })
