import * as v from 'valibot'
import { type CallOptions, type EngineClient, filtersOf, segment } from './client.ts'
import { Flag, listOf, recordOf, Text, Texts } from './shapes.ts'

const Network = v.looseObject({
  Id: v.string(),
  Name: v.string(),
  /** RFC 3339. */
  Created: Text,
  Driver: Text,
  Internal: Flag,
  EnableIPv6: Flag,
  ConfigOnly: Flag,
  Labels: Texts,
  /** Podman 4.3 drops the name of the bridge (spec balena-supervisor §23.4). */
  Options: Texts,
  IPAM: v.nullish(
    v.looseObject({
      Driver: Text,
      Config: listOf(v.looseObject({ Subnet: Text, Gateway: Text, IPRange: Text })),
    }),
  ),
  /** By container id; only in an inspection. */
  Containers: recordOf(v.looseObject({ Name: Text, IPv4Address: Text })),
})
export type Network = v.InferOutput<typeof Network>

const Created = v.looseObject({ Id: v.string() })

export interface ListNetworksOptions extends CallOptions {
  readonly labels?: readonly string[]
  /** Parts of names. */
  readonly names?: readonly string[]
}

/** A network as it is asked for, in the engine's own form. */
export interface NetworkBody {
  readonly Name: string
  readonly [member: string]: unknown
}

/** Calls about networks, named by id or name. All throw {@link EngineError}. */
export interface Networks {
  list(options?: ListNetworksOptions): Promise<readonly Network[]>
  inspect(network: string, options?: CallOptions): Promise<Network>
  /**
   * @returns Its id.
   * @throws `ENGINE_CONFLICT` for a name in use; Docker says `ENGINE_FAILED` to a subnet in use.
   */
  create(body: NetworkBody, options?: CallOptions): Promise<string>
  /** @throws `ENGINE_REJECTED` (Docker) or `ENGINE_CONFLICT` (Podman) while containers use it. */
  remove(network: string, options?: CallOptions): Promise<void>
  /** @param endpoint The engine's own form: `{Aliases: ["api"]}`. */
  connect(
    network: string,
    container: string,
    endpoint?: object,
    options?: CallOptions,
  ): Promise<void>
  disconnect(
    network: string,
    container: string,
    options?: CallOptions & { readonly force?: boolean },
  ): Promise<void>
}

export function createNetworks(client: EngineClient): Networks {
  const at = (network: string, action: string) => `/networks/${segment(network, action)}`

  return {
    list: ({ labels, names, ...options } = {}) =>
      client.json(
        {
          action: 'list networks',
          path: '/networks',
          query: { filters: filtersOf({ label: labels, name: names }) },
          ...options,
        },
        listOf(Network),
      ),

    inspect: async (network, options) => {
      const action = `inspect network "${network}"`
      return client.json({ action, path: at(network, action), ...options }, Network)
    },

    create: async (body, options) => {
      const action = `create network "${body.Name}"`
      segment(body.Name, action)
      // Docker makes a second network of one name, unless told not to.
      const checked = { CheckDuplicate: true, ...body }
      const call = { action, method: 'POST', path: '/networks/create', body: checked } as const
      return (await client.json({ ...call, ...options }, Created)).Id
    },

    remove: async (network, options) => {
      const action = `remove network "${network}"`
      await client.status({ action, method: 'DELETE', path: at(network, action), ...options })
    },

    connect: async (network, container, endpoint, options) => {
      const action = `connect container "${container}" to network "${network}"`
      const path = `${at(network, action)}/connect`
      const body = { Container: container, ...(endpoint ? { EndpointConfig: endpoint } : {}) }
      await client.status({ action, method: 'POST', path, body, ...options })
    },

    disconnect: async (network, container, { force = false, ...options } = {}) => {
      const action = `disconnect container "${container}" from network "${network}"`
      const path = `${at(network, action)}/disconnect`
      const body = { Container: container, Force: force }
      await client.status({ action, method: 'POST', path, body, ...options })
    },
  }
}
