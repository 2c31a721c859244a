import { MAX_APPS } from './limits.ts'
import { isObject, type JsonObject } from './place.ts'

/**
 * The oldest form of `apps.json` (spec §9.3), a list of apps with one container each, in the v2
 * form. Such a container saw the device as a whole: host network, privileged, its data on `/data`,
 * and the features that later had to be asked for by label. What is wrong with it is found where
 * the v2 form is read.
 */
export function convertOldest(list: readonly unknown[]): JsonObject {
  const apps: [string, unknown][] = []
  const config: [string, unknown][] = []
  // One more than is allowed is enough to be refused.
  for (const element of list.slice(0, MAX_APPS + 1)) {
    if (!isObject(element)) return { apps: null }
    apps.push([String(element.appId), convertApp(element)])
    if (isObject(element.config)) config.push(...Object.entries(element.config))
  }
  return { config: Object.fromEntries(config), apps: Object.fromEntries(apps) }
}

const FEATURES = ['dbus', 'kernel-modules', 'firmware', 'supervisor-api', 'balena-api']

function convertApp({ appId, name, commit, imageId, env }: JsonObject): JsonObject {
  const features = FEATURES.map((feature) => [`io.balena.features.${feature}`, '1'])
  return {
    name: name ?? String(appId),
    commit,
    releaseId: 1,
    networks: {},
    volumes: { 'resin-data': {} },
    services: {
      1: {
        serviceName: 'main',
        serviceId: 1,
        imageId: 1,
        // This form calls the reference so.
        image: imageId,
        running: true,
        environment: env ?? {},
        labels: { ...Object.fromEntries(features), 'io.balena.legacy-container': '1' },
        privileged: true,
        network_mode: 'host',
        restart: 'always',
        volumes: ['resin-data:/data'],
      },
    },
  }
}
