/**
 * A `virsh` that is none: it passes `qemu-monitor-command DOMAIN JSON` on to a QMP socket, as libvirt does, and `qemu-agent-command`
 * to an agent's.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** @returns a folder for PATH. */
export function virshStandIn(folder: string, domain: string, socket: string, agent = ''): string {
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  const script = `#!${process.execPath}
const { connect } = require('node:net');
const [quiet, command, domain, request] = process.argv.slice(2);
const sockets = {
  'qemu-monitor-command': ${JSON.stringify(socket)},
  'qemu-agent-command': ${JSON.stringify(agent)},
};
if (quiet !== '--quiet' || !(command in sockets) || domain !== ${JSON.stringify(domain)}) {
  process.stderr.write("error: failed to get domain '" + domain + "'\\n");
  process.exit(1);
}
const socket = connect(sockets[command]);
let text = '';
let step = 0;
// The agent has no greeting.
if (command === 'qemu-agent-command') {
  socket.write(request + '\\n');
  step = 2;
}
socket.setEncoding('utf8').on('data', (part) => {
  const lines = (text + part).split('\\n');
  text = lines.pop();
  for (const line of lines) {
    const message = JSON.parse(line);
    if (message.event) continue;
    if (step === 0) socket.write('{"execute":"qmp_capabilities"}\\n');
    else if (step === 1) socket.write(request + '\\n');
    else {
      process.stdout.write(JSON.stringify(message) + '\\n');
      socket.destroy();
    }
    step++;
  }
});
`;
  writeFileSync(join(bin, 'virsh'), script);
  chmodSync(join(bin, 'virsh'), 0o755);
  return bin;
}
