/** Forged libvirt save images, around a small migration stream as QEMU writes it. */

const PAGE = 4096;

export interface ForgedSave {
  readonly magic?: string;
  readonly version?: number;
  readonly bigEndian?: boolean;
  readonly xml?: Buffer;
  readonly cookie?: string;
  readonly cookieOffset?: number;
  /** Bytes between header and stream; default: what XML and cookie take, and some slack. */
  readonly dataBytes?: number;
  readonly wasRunning?: number;
  readonly format?: number;
  /** Default: that of a machine whose RAM is `memory`. */
  readonly stream?: Buffer;
}

export const DOMAIN_XML = `<domain type='kvm'>
  <name>web&amp;1</name>
  <uuid>6F1C2D3E-4b5a-4c6d-8e7f-001122334455</uuid>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
</domain>`;

export function forgeSave(memory: Buffer, forged: ForgedSave = {}): Buffer {
  const xml = forged.xml ?? Buffer.from(`${DOMAIN_XML}\0`);
  const cookie = forged.cookie === undefined ? Buffer.alloc(0) : Buffer.from(`${forged.cookie}\0`);
  const data = Buffer.alloc(Math.max(xml.length + cookie.length + 64, forged.dataBytes ?? 0));
  xml.copy(data);
  cookie.copy(data, xml.length);
  const header = Buffer.alloc(92);
  header.write(forged.magic ?? 'LibvirtQemudSave');
  const words = [
    forged.version ?? 2,
    forged.dataBytes ?? data.length,
    forged.wasRunning ?? 1,
    forged.format ?? 0,
    forged.cookieOffset ?? (forged.cookie === undefined ? 0 : xml.length),
  ];
  for (const [i, word] of words.entries()) {
    if (forged.bigEndian) header.writeUInt32BE(word, 16 + 4 * i);
    else header.writeUInt32LE(word, 16 + 4 * i);
  }
  return Buffer.concat([
    header,
    data.subarray(0, forged.dataBytes ?? data.length),
    forged.stream ?? forgeStream(memory),
  ]);
}

const ADDRESS_MEM_SIZE = 0x04;
const ADDRESS_PAGE = 0x08;
const ADDRESS_EOS = 0x10;

/** A migration stream of one RAM block, "pc.ram", with every page of it. */
export function forgeStream(memory: Buffer): Buffer {
  const footer = Buffer.from([0x7e, 0, 0, 0, 2]);
  const parts: Buffer[] = [Buffer.from('5145564d00000003', 'hex')];
  const name = Buffer.from('pc-q35-7.2');
  parts.push(Buffer.from([7]), u32(name.length), name);
  parts.push(Buffer.from([1]), u32(2), short('ram'), u32(0), u32(4));
  parts.push(word(memory.length, ADDRESS_MEM_SIZE), short('pc.ram'), word(memory.length, 0));
  parts.push(word(0, ADDRESS_EOS), footer);
  parts.push(Buffer.from([2]), u32(2));
  for (let at = 0; at < memory.length; at += PAGE) {
    parts.push(word(at, ADDRESS_PAGE), short('pc.ram'), memory.subarray(at, at + PAGE));
  }
  parts.push(word(0, ADDRESS_EOS), footer);
  parts.push(Buffer.from([3]), u32(2), word(0, ADDRESS_EOS), footer, Buffer.from([0]));
  return Buffer.concat(parts);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function word(address: number, flags: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(address) | BigInt(flags));
  return bytes;
}

function short(text: string): Buffer {
  return Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]);
}
