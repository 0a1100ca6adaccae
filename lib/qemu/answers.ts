/** What QEMU answers is looked at before it is used: a field of the wrong kind is as good as none. */

export function fieldOf(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
}

export function textOf(value: unknown, key: string): string | undefined {
  const field = fieldOf(value, key);
  return typeof field === 'string' ? field : undefined;
}

/** A whole number that is no less than 0. */
export function countOf(value: unknown, key: string): number | undefined {
  const field = fieldOf(value, key);
  return Number.isSafeInteger(field) && (field as number) >= 0 ? (field as number) : undefined;
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
