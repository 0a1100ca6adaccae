/**
 * A small JSON Schema validator: the keywords that docs/schema uses, and an error for any other, so that no schema
 * promises what is not checked.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './paths.js';

type Schema = Readonly<Record<string, unknown>>;
const ANNOTATIONS = new Set(['$schema', '$defs', 'title', 'description']);

export function readSchema(name: string): Schema {
  return JSON.parse(readFileSync(join(ROOT, 'docs', 'schema', name), 'utf8')) as Schema;
}

/** What is wrong with `value`, one line each; empty if it is valid. */
export function schemaFaults(schemaFile: string, value: unknown): string[] {
  const root = readSchema(schemaFile);
  return check(root, value, '$', root);
}

function check(schema: Schema, value: unknown, at: string, root: Schema): string[] {
  return Object.entries(schema).flatMap(([keyword, argument]) => {
    if (ANNOTATIONS.has(keyword)) return [];
    const keywordCheck = KEYWORDS[keyword];
    if (keywordCheck === undefined) return [`${at}: the validator does not know ${keyword}`];
    return keywordCheck(argument, value, at, root, schema);
  });
}

type KeywordCheck = (argument: unknown, value: unknown, at: string, root: Schema, schema: Schema) => string[];

const KEYWORDS: Readonly<Record<string, KeywordCheck>> = {
  type: (types, value, at) =>
    fault([types].flat().includes(typeOf(value)) || isIntegerFor(types, value), at, `is no ${types}`),
  const: (constant, value, at) => fault(value === constant, at, `is not ${constant}`),
  enum: (words, value, at) => fault((words as unknown[]).includes(value), at, `${String(value)} is none of the words`),
  minimum: (least, value, at) => fault(typeof value !== 'number' || value >= (least as number), at, 'is too small'),
  maximum: (most, value, at) => fault(typeof value !== 'number' || value <= (most as number), at, 'is too large'),
  pattern: (regex, value, at) =>
    fault(typeof value !== 'string' || new RegExp(regex as string).test(value), at, 'mismatch'),
  required: (names, value, at) =>
    (names as string[]).flatMap((name) => fault(!isObject(value) || Object.hasOwn(value, name), at, `lacks ${name}`)),
  properties: (properties, value, at, root) =>
    isObject(value)
      ? Object.entries(properties as Record<string, Schema>).flatMap(([name, schema]) =>
          Object.hasOwn(value, name) ? check(schema, value[name], `${at}.${name}`, root) : [],
        )
      : [],
  additionalProperties: checkAdditional,
  items: (schema, value, at, root) =>
    Array.isArray(value) ? value.flatMap((item, i) => check(schema as Schema, item, `${at}[${i}]`, root)) : [],
  anyOf: (schemas, value, at, root) => {
    const faults = (schemas as Schema[]).map((schema) => check(schema, value, at, root));
    return faults.some((list) => list.length === 0) ? [] : faults.flat();
  },
  $ref: checkReference,
};

const checkAdditionalNames = (value: object, schema: Schema): string[] =>
  Object.keys(value).filter((name) => !Object.hasOwn((schema.properties ?? {}) as object, name));

function checkAdditional(rule: unknown, value: unknown, at: string, root: Schema, schema: Schema): string[] {
  if (!isObject(value)) return [];
  const names = checkAdditionalNames(value, schema);
  if (rule === false) return names.map((name) => `${at}: unknown key ${name}`);
  return names.flatMap((name) => check(rule as Schema, value[name], `${at}.${name}`, root));
}

function checkReference(reference: unknown, value: unknown, at: string, root: Schema): string[] {
  const [file, pointer = ''] = String(reference).split('#');
  const document = file === '' ? root : readSchema(file!);
  const steps = pointer.split('/').filter((step) => step !== '');
  const target = steps.reduce<unknown>((node, step) => (node as Record<string, unknown>)[step], document);
  return check(target as Schema, value, at, document);
}

function fault(ok: boolean, at: string, message: string): string[] {
  return ok ? [] : [`${at}: ${message}`];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

function isIntegerFor(types: unknown, value: unknown): boolean {
  return [types].flat().includes('integer') && Number.isSafeInteger(value);
}
