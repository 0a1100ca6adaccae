/** What is said on standard error, and how, on terminals, in journals and in files. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { Writable } from 'node:stream';
import test from 'ava';
import { Talk, type TalkEnvironment } from '../../cli/output/talk.js';

const FAILURE = { code: 'IO', exitCode: 20, message: 'cannot read x', path: 'x', offset: undefined, hint: 'try again' };

function heard(tty: boolean, env: TalkEnvironment, speak: (talk: Talk) => void, silent = false, fd?: number): string {
  const parts: string[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      parts.push(String(chunk));
      done();
    },
  });
  Object.assign(stream, { isTTY: tty, columns: 80, fd });
  speak(new Talk(stream as unknown as NodeJS.WriteStream, env, silent));
  return parts.join('');
}

const fail = (talk: Talk): void => talk.failure(FAILURE);

test('plain in a file', (t) => {
  t.is(heard(false, {}, fail), 'vmsnap: error: cannot read x\nhint: try again\n');
  t.is(
    heard(false, {}, (talk) => talk.warning('w')),
    'vmsnap: warning: w\n',
  );
});

test('priorities in the journal, on every line, and in no other stream', (t) => {
  const fd = openSync('/dev/null', 'w');
  t.teardown(() => closeSync(fd));
  const { dev, ino } = fstatSync(fd);
  const env = { JOURNAL_STREAM: `${dev}:${ino}` };
  t.is(heard(false, env, fail, false, fd), '<3>vmsnap: error: cannot read x\n<3>hint: try again\n');
  t.is(
    heard(false, env, (talk) => talk.warning('a\nb'), false, fd),
    '<4>vmsnap: warning: a\n<4>b\n',
  );
  for (const other of [`${dev}:${ino + 1}`, `${dev}`, '', 'x']) {
    t.false(heard(false, { JOURNAL_STREAM: other }, fail, false, fd).includes('<3>'), other);
  }
  t.false(heard(false, env, fail).includes('<3>'), 'a stream without a descriptor');
});

test('colours on a terminal only, and never with NO_COLOR or a dumb one', (t) => {
  t.true(heard(true, { TERM: 'xterm' }, fail).includes('\u001b['));
  t.false(heard(true, { TERM: 'xterm', NO_COLOR: '1' }, fail).includes('\u001b['));
  t.false(heard(true, { TERM: 'dumb' }, fail).includes('\u001b['));
});

test('progress is rewritten, and cleared before anything else is said', (t) => {
  const text = heard(true, { TERM: 'xterm', NO_COLOR: '1' }, (talk) => {
    talk.progress('10 %');
    talk.progress('20 %');
    talk.warning('w');
    talk.clearProgress();
  });
  t.is(text, '\r10 %\u001b[K\r20 %\u001b[K\r\u001b[Kvmsnap: warning: w\n');
});

test('a note is for a terminal, and never with --json', (t) => {
  const note = (talk: Talk): void => talk.note('n');
  t.is(heard(true, { NO_COLOR: '1' }, note), 'note: n\n');
  t.is(heard(false, {}, note), '');
  t.is(heard(false, { JOURNAL_STREAM: '8:1' }, note), '');
  t.is(heard(true, {}, note, true), '');
});

test('no progress without a terminal, on a dumb one, or with --json', (t) => {
  const show = (talk: Talk): void => talk.progress('10 %');
  t.is(heard(false, {}, show), '');
  t.is(heard(true, { TERM: 'dumb' }, show), '');
  t.is(heard(true, {}, show, true), '');
});

test('with --json nothing is said', (t) => {
  t.is(heard(false, {}, fail, true), '');
});
