import { TEST_IMAGE, type TestEngine } from '../helpers/engine.ts'

/** Lines of all files of a volume, read by a container that is gone afterwards. */
export async function readVolume({ client }: TestEngine, volume: string): Promise<string[]> {
  const { containers } = client
  const { Id } = await containers.create('reader', {
    Image: TEST_IMAGE,
    Cmd: ['sh', '-c', 'cat /data/*'],
    HostConfig: { Binds: [`${volume}:/data`] },
  })
  try {
    await containers.start(Id)
    await containers.wait(Id)
    const lines: string[] = []
    for await (const { text } of containers.logs(Id)) lines.push(text)
    return lines
  } finally {
    await containers.remove(Id, { force: true })
  }
}
