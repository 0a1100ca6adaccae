/** Which QEMU it is, as it says itself: "7.2.19". */

/** Major and minor. */
export function parseVersion(text: string): readonly [number, number] | null {
  const match = /^(\d+)\.(\d+)/.exec(text);
  return match && [Number(match[1]), Number(match[2])];
}

export function isAtLeast(version: string, major: number, minor: number): boolean {
  const [a, b] = parseVersion(version) ?? [0, 0];
  return a > major || (a === major && b >= minor);
}
