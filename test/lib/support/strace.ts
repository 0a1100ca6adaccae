/** strace: whether it works here, and the command under it. */
import { spawnSync } from 'node:child_process';

/** Why strace cannot be used, or undefined. In CI it must be there, but a sandbox may forbid to trace. */
export function missingStrace(): string | undefined {
  const { error, status } = spawnSync('strace', ['-f', '-o', '/dev/null', '-e', 'inject=getppid:error=EIO', 'true']);
  if (error !== undefined) return process.env.VMSNAP_REQUIRE_GUEST === '1' ? undefined : 'there is no strace';
  return status === 0 ? undefined : 'strace may not trace here';
}
