/**
 * A wrong command line. Stands beside VmsnapError (same fields, code USAGE) so that parsing and help need not load the
 * library and its native part.
 */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly code = 'USAGE';
  readonly exitCode = 2;
  readonly hint: string | undefined;

  constructor(message: string, hint?: string) {
    super(message);
    this.hint = hint;
  }
}
