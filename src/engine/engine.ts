import * as v from 'valibot'
import { type CallOptions, createClient } from './client.ts'
import { type Containers, createContainers } from './containers.ts'
import { createEvents, type EngineEvents } from './events.ts'
import { createImages, type Images } from './images.ts'
import { createNetworks, type Networks } from './networks.ts'
import { Count, Text } from './shapes.ts'
import type { Spoken } from './version.ts'
import { createVolumes, type Volumes } from './volumes.ts'

export interface EngineOptions {
  /** Path of the engine's Unix socket. */
  readonly socketPath: string
  /** For a call that sets none, and is not known to take longer. Default: 30 s. */
  readonly deadlineMs?: number
  /** Largest answer read. Default: 32 MiB. */
  readonly maxAnswerBytes?: number
}

const EngineVersion = v.looseObject({
  /** Of the engine: `20.10.24`. */
  Version: Text,
  ApiVersion: Text,
  MinAPIVersion: Text,
  Os: Text,
  Arch: Text,
  KernelVersion: Text,
})
export type EngineVersion = v.InferOutput<typeof EngineVersion>

const EngineInfo = v.looseObject({
  ID: Text,
  Name: Text,
  ServerVersion: Text,
  OperatingSystem: Text,
  Architecture: Text,
  /** Storage driver. */
  Driver: Text,
  LoggingDriver: Text,
  DockerRootDir: Text,
  Containers: Count,
  ContainersRunning: Count,
  NCPU: Count,
  /** Bytes. */
  MemTotal: Count,
})
export type EngineInfo = v.InferOutput<typeof EngineInfo>

/**
 * A container engine that speaks the Docker Engine API: Docker, balenaEngine, Podman (spec
 * balena-supervisor §23). Opens nothing by itself; every call has a deadline, and throws an
 * {@link EngineError} or the reason of its signal.
 */
export interface Engine {
  readonly socketPath: string
  readonly containers: Containers
  readonly images: Images
  readonly networks: Networks
  readonly volumes: Volumes
  readonly events: EngineEvents
  /** Whether it answers: throws when it does not. */
  ping(options?: CallOptions): Promise<void>
  /** Which version of the API is spoken, and with what. */
  spoken(options?: CallOptions): Promise<Spoken>
  version(options?: CallOptions): Promise<EngineVersion>
  info(options?: CallOptions): Promise<EngineInfo>
}

export function openEngine(options: EngineOptions): Engine {
  const client = createClient(options)
  return {
    socketPath: client.socketPath,
    containers: createContainers(client),
    images: createImages(client),
    networks: createNetworks(client),
    volumes: createVolumes(client),
    events: createEvents(client),
    ping: async (call) => {
      client.forget()
      await client.spoken(call)
    },
    spoken: (call) => client.spoken(call),
    version: (call) =>
      client.json({ action: 'ask for the version', path: '/version', ...call }, EngineVersion),
    info: (call) =>
      client.json({ action: 'ask for information', path: '/info', ...call }, EngineInfo),
  }
}
