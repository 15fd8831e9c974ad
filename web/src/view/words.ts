/** Numbers as people read them. */

/** A time, as short as it can be said: 0.3 s, 12 s, 3 min. */
export function duration(seconds: number): string {
  if (seconds < 0.001) return "0 s";
  if (seconds < 0.95) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
