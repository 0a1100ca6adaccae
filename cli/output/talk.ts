/** What is said on standard error: errors, warnings and, on a terminal, how far the work is. */
import { fstatSync } from 'node:fs';
import pc from 'picocolors';
import type { Failure } from '../failure.js';

/** systemd's journal reads these at the start of a line as the line's priority. */
const JOURNAL_ERROR = '<3>';
const JOURNAL_WARNING = '<4>';
const JOURNAL_INFO = '<6>';

export interface TalkEnvironment {
  readonly JOURNAL_STREAM?: string | undefined;
  readonly NO_COLOR?: string | undefined;
  readonly TERM?: string | undefined;
}

export class Talk {
  /** Colours for this stream; each function returns its text unchanged where there are none. */
  readonly colors: ReturnType<typeof pc.createColors>;
  readonly #stream: NodeJS.WriteStream;
  readonly #journal: boolean;
  readonly #terminal: boolean;
  readonly #silent: boolean;
  #progressShown = false;

  /** `silent`: with `--json` nothing is said; errors and warnings are in the object. */
  constructor(stream: NodeJS.WriteStream, env: TalkEnvironment, silent: boolean) {
    this.#stream = stream;
    this.#silent = silent;
    const isTty = stream.isTTY === true;
    this.#journal = leadsToJournal(stream, env.JOURNAL_STREAM);
    this.#terminal = isTty && env.TERM !== 'dumb';
    this.colors = pc.createColors(this.#terminal && !env.NO_COLOR);
    // A reader of stderr that went away takes nothing from the work.
    stream.on('error', () => undefined);
  }

  /** Whether a line can be rewritten, so whether progress makes sense. */
  get showsProgress(): boolean {
    return this.#terminal && !this.#silent;
  }

  get columns(): number {
    // 0 on terminals that do not know their size, such as serial consoles.
    return this.#stream.columns || 80;
  }

  failure({ message, hint }: Failure): void {
    this.#say(JOURNAL_ERROR, this.colors.red('vmsnap: error:'), message);
    if (hint !== undefined) this.#say(JOURNAL_ERROR, this.colors.cyan('hint:'), hint);
  }

  /** A damaged image, where the answer itself goes on. */
  damage(message: string): void {
    this.#say(JOURNAL_ERROR, this.colors.red('vmsnap: error:'), message);
  }

  warning(message: string): void {
    this.#say(JOURNAL_WARNING, this.colors.yellow('vmsnap: warning:'), message);
  }

  /** What was asked for with --verbose. */
  info(message: string): void {
    this.#say(JOURNAL_INFO, this.colors.cyan('vmsnap:'), message);
  }

  /** What somebody at a terminal may want to know; a log has no use for it. */
  note(message: string): void {
    if (this.#terminal) this.#say('', this.colors.cyan('note:'), message);
  }

  progress(line: string): void {
    if (!this.showsProgress) return;
    this.#progressShown = true;
    this.#stream.write(`\r${line}\x1b[K`);
  }

  clearProgress(): void {
    if (!this.#progressShown) return;
    this.#progressShown = false;
    this.#stream.write('\r\x1b[K');
  }

  #say(priority: string, head: string, message: string): void {
    if (this.#silent) return;
    this.clearProgress();
    const text = `${head} ${message}`;
    const lines = this.#journal ? text.split('\n').map((line) => `${priority}${line}`) : [text];
    this.#stream.write(`${lines.join('\n')}\n`);
  }
}

/**
 * Whether this very stream is the one that systemd says leads to the journal, "DEVICE:INODE" (systemd.exec(5)): a script in the
 * unit may have led it elsewhere, and whoever was started from a desktop session inherits the variable alone.
 */
function leadsToJournal(stream: NodeJS.WriteStream, journalStream: string | undefined): boolean {
  const { fd } = stream as { readonly fd?: number };
  if (journalStream === undefined || fd === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return journalStream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}
