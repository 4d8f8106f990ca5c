/** Durations and pauses, in milliseconds. */
import type { Duration } from '../gen/google/protobuf/duration.js';

export function milliseconds(duration: Duration | undefined): number {
  return duration ? duration.seconds * 1e3 + duration.nanos / 1e6 : 0;
}

/** A pause before trying again: doubling, and jittered so that clients spread out. */
export function backoff(failures: number): number {
  return Math.min(2_000, 50 * 2 ** failures) * (0.5 + Math.random() / 2);
}
