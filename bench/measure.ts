import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/** A command to be measured. */
export interface Job {
  command: string[];
  /** A file that takes the command's standard output, written from its start and not truncated. */
  stdoutFile?: string;
  /** A file that is synced before the clock stops. */
  syncedFile?: string;
}

export interface Measurement {
  wallSeconds: number;
  /** User and system time of all threads. */
  cpuSeconds: number;
  /** Largest resident memory. The wrapper's own few MB are the least that can be seen. */
  peakMemoryBytes: number;
  /** Bytes written through standard output, where it went into a file. */
  stdoutBytes: number;
}

// Node does not tell the peak memory of a child; wait4 does, without polling. The clock runs around the command alone.
const WRAPPER = `
import json, os, sys, time
job = json.loads(sys.argv[1])
path = job.get("stdoutFile")
out = os.open(path if path else os.devnull, os.O_WRONLY | os.O_CREAT, 0o600)
started = time.monotonic()
pid = os.posix_spawnp(job["command"][0], job["command"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, out, 1)])
_, status, usage = os.wait4(pid, 0)
if job.get("syncedFile"):
    written = os.open(job["syncedFile"], os.O_RDONLY)
    os.fsync(written)
wall = time.monotonic() - started
print(json.dumps({
    "wallSeconds": wall,
    "cpuSeconds": usage.ru_utime + usage.ru_stime,
    "peakMemoryBytes": usage.ru_maxrss * 1024,
    "stdoutBytes": os.lseek(out, 0, os.SEEK_CUR) if path else 0,
    "exitCode": os.waitstatus_to_exitcode(status),
}))
`;

// Nothing that makes one contender slower (NODE_EXTRA_CA_CERTS costs every start of Node 46 ms) or faster (ZSTD_NBTHREADS).
const ENVIRONMENT = Object.fromEntries(['PATH', 'HOME', 'TMPDIR'].map((name) => [name, process.env[name]]));

/** Runs a command to its end. An exit code other than 0 is an error with what the command said. */
export async function measure(job: Job): Promise<Measurement> {
  const wrapper = spawn('python3', ['-ISc', WRAPPER, JSON.stringify(job)], {
    env: ENVIRONMENT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr] = await Promise.all([text(wrapper.stdout), text(wrapper.stderr), once(wrapper, 'close')]);
  const answer = stdout === '' ? undefined : (JSON.parse(stdout) as Measurement & { exitCode: number });
  if (answer?.exitCode !== 0) throw new Error(`${job.command.join(' ')} failed: ${stderr}`);
  return answer;
}
