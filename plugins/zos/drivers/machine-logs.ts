/** The log of a machine, as whoever runs machines gives it to `zlogs`. */
export interface MachineLogs {
  /**
   * What a machine wrote and goes on writing; ends when it stops, or is not there.
   *
   * @param machineId Of the workload.
   * @throws Anything, when the log cannot be read just now.
   */
  follow(machineId: string, options: FollowLogOptions): AsyncIterable<MachineLogLine>
}

export interface FollowLogOptions {
  /** Begin with this many of the last lines. */
  readonly tail: number
  /** Begin at this {@link MachineLogLine.time} instead; lines of that time may come again. */
  readonly since?: string
  readonly signal: AbortSignal
}

export interface MachineLogLine {
  /** Without its line end. */
  readonly text: string
  /** RFC 3339, never earlier than that of the line before; always of one zone. */
  readonly time?: string
}
