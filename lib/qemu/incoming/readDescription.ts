/** Reads the attachment "machine.json": what an image says of a machine is somebody else's words until it is looked at. */
import { VmsnapError } from '../../../native/errors.js';
import {
  MACHINE_ATTACHMENT,
  MACHINE_SCHEMA,
  MACHINE_SCHEMA_VERSION,
  type MachineBackend,
  type MachineDescription,
  type MachineDisk,
  type MachineRegion,
} from '../machineDescription.js';

/** @param image how messages call the image. @throws CORRUPT, UNSUPPORTED (a later version). */
export function readDescription(bytes: Buffer, image: string): MachineDescription {
  const fields = new Fields(parse(bytes, image), '', image);
  if (fields.text('schema') !== MACHINE_SCHEMA) throw fields.fault('schema', MACHINE_SCHEMA);
  const version = fields.number('schemaVersion');
  if (version > MACHINE_SCHEMA_VERSION) throw tooNew(image, version);
  return {
    schema: MACHINE_SCHEMA,
    schemaVersion: MACHINE_SCHEMA_VERSION,
    qemuVersion: fields.text('qemuVersion'),
    machineType: fields.text('machineType'),
    name: fields.textOrNull('name'),
    uuid: fields.textOrNull('uuid'),
    foundStatus: fields.text('foundStatus'),
    memoryBytes: fields.number('memoryBytes'),
    regions: fields.list('regions').map(readRegion),
    disks: fields.list('disks').map(readDisk),
    frozenFileSystems: fields.numberOrNull('frozenFileSystems'),
    commandLine: fields.textsOrNull('commandLine'),
    queries: fields.object('queries').values,
  };
}

function readRegion(fields: Fields): MachineRegion {
  const contents = fields.text('contents');
  if (contents !== 'stream' && contents !== 'file') throw fields.fault('contents', '"stream" or "file"');
  return {
    region: fields.text('region'),
    block: fields.text('block'),
    blockOffset: fields.number('blockOffset'),
    sizeBytes: fields.number('sizeBytes'),
    gpa: fields.numberOrNull('gpa'),
    contents,
    backend: readBackend(fields.objectOrNull('backend')),
  };
}

function readBackend(fields: Fields | null): MachineBackend | null {
  if (fields === null) return null;
  return {
    id: fields.text('id'),
    type: fields.text('type'),
    share: fields.boolean('share'),
    path: fields.textOrNull('path'),
  };
}

function readDisk(fields: Fields): MachineDisk {
  return {
    node: fields.text('node'),
    device: fields.textOrNull('device'),
    driver: fields.text('driver'),
    file: fields.textOrNull('file'),
    sizeBytes: fields.numberOrNull('sizeBytes'),
    mtimeNanoseconds: fields.textOrNull('mtimeNanoseconds'),
    snapshots: fields.textsOrNull('snapshots') ?? [],
  };
}

function parse(bytes: Buffer, image: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw broken(image, 'it is no JSON');
  }
}

/** Members of a JSON object, each looked at when it is taken. */
class Fields {
  readonly values: Readonly<Record<string, unknown>>;
  readonly #where: string;
  readonly #image: string;

  constructor(value: unknown, where: string, image: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw broken(image, `${where === '' ? 'it' : where} is no object`);
    this.values = value as Record<string, unknown>;
    this.#where = where;
    this.#image = image;
  }

  fault(name: string, expected: string): VmsnapError {
    return broken(this.#image, `${this.#place(name)} is not ${expected}`);
  }

  text(name: string): string {
    const value = this.values[name];
    if (typeof value !== 'string' || value.includes('\0')) throw this.fault(name, 'a text');
    return value;
  }

  textOrNull(name: string): string | null {
    return this.#isNull(name) ? null : this.text(name);
  }

  boolean(name: string): boolean {
    const value = this.values[name];
    if (typeof value !== 'boolean') throw this.fault(name, 'true or false');
    return value;
  }

  number(name: string): number {
    const value = this.values[name];
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw this.fault(name, 'a whole number');
    return value as number;
  }

  numberOrNull(name: string): number | null {
    return this.#isNull(name) ? null : this.number(name);
  }

  object(name: string): Fields {
    return new Fields(this.values[name], this.#place(name), this.#image);
  }

  objectOrNull(name: string): Fields | null {
    return this.#isNull(name) ? null : this.object(name);
  }

  list(name: string): Fields[] {
    const value = this.values[name];
    if (!Array.isArray(value)) throw this.fault(name, 'a list');
    return value.map((entry, i) => new Fields(entry, `${this.#place(name)}[${i}]`, this.#image));
  }

  textsOrNull(name: string): string[] | null {
    if (this.#isNull(name)) return null;
    const value = this.values[name];
    if (!Array.isArray(value) || !value.every((entry) => typeof entry === 'string'))
      throw this.fault(name, 'a list of texts');
    return value;
  }

  #isNull(name: string): boolean {
    return this.values[name] === null || this.values[name] === undefined;
  }

  #place(name: string): string {
    return this.#where === '' ? name : `${this.#where}.${name}`;
  }
}

function broken(image: string, what: string): VmsnapError {
  return new VmsnapError('CORRUPT', `the attachment "${MACHINE_ATTACHMENT}" of ${image} is no description: ${what}`, {
    path: image,
    hint: `"vmsnap extract --attachment ${MACHINE_ATTACHMENT} ${image} -" shows it`,
  });
}

function tooNew(image: string, version: number): VmsnapError {
  const message = `the attachment "${MACHINE_ATTACHMENT}" of ${image} has version ${version}, and ${MACHINE_SCHEMA_VERSION} is known here`;
  return new VmsnapError('UNSUPPORTED', message, { path: image, hint: 'use a newer vmsnap' });
}
