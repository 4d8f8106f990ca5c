/**
 * Proto3 JSON for the conformance suite. Converts what ts-proto's fromJSON() does not: durations and
 * field masks; and refuses unknown fields. Responses are written as they are, as proto3 JSON parsers
 * accept numbers for enums and 64-bit integers.
 */
import type { Any } from '../../gen/google/protobuf/any.js';
import type { Duration } from '../../gen/google/protobuf/duration.js';
import { type Detail, unpack } from '../threadbus.js';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The part of a generated message object that is used here. */
export interface Parser<T> {
  fromJSON(json: unknown): T;
}

/** Parses `json`. Throws TypeError if it has a field that the message does not have. */
export function parse<T>(type: Parser<T>, json: Json): T {
  const message = type.fromJSON(converted(json));
  checkFields(json, message);
  return message;
}

function converted(json: Json, key = ''): unknown {
  if (typeof json === 'string') {
    if (key === 'updateMask') return snakeCase(json);
    if (['grace', 'keepaliveInterval', 'lease', 'maxWait', 'within'].includes(key)) return duration(json);
  }
  if (Array.isArray(json)) return json.map((item) => converted(item));
  if (key === 'labels') return json; // its keys are not field names
  if (json === null || typeof json !== 'object') return json;
  return Object.fromEntries(Object.entries(json).map(([name, v]) => [name, converted(v, name)]));
}

function duration(text: string): Duration {
  const [, sign, seconds, fraction = ''] = /^(-?)(\d+)(?:\.(\d{1,9}))?s$/.exec(text) ?? [];
  if (seconds === undefined) throw new TypeError(`${text} is no duration`);
  const factor = sign ? -1 : 1;
  return { seconds: factor * Number(seconds), nanos: factor * Number(fraction.padEnd(9, '0')) };
}

const snakeCase = (text: string) => text.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function checkFields(json: Json, message: unknown): void {
  if (json === null || typeof json !== 'object' || typeof message !== 'object') return;
  for (const [name, value] of Object.entries(json)) {
    if (!(name in message!)) throw new TypeError(`there is no field ${name}`);
    checkFields(value, (message as Record<string, unknown>)[name]);
  }
}

/** Converts a message into what JSON.stringify() writes as proto3 JSON. */
export function plain(value: unknown, key = ''): unknown {
  if (Buffer.isBuffer(value)) return value.toString('base64');
  if (Array.isArray(value)) return value.map((item) => plain(item));
  if (value === null || typeof value !== 'object') return value;
  if ('typeUrl' in value) return unpack([value as Any]).map(any)[0];
  const { seconds, nanos } = value as Partial<Duration>;
  if (typeof seconds === 'number' && typeof nanos === 'number') {
    const fraction = `.${String(Math.abs(nanos)).padStart(9, '0')}`;
    if (!key.endsWith('Time')) return `${seconds}${fraction}s`;
    return new Date(seconds * 1000).toISOString().replace('.000', fraction); // a Timestamp
  }
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plain(item, name)]));
}

/** Converts a detail of an error into a proto3 JSON Any, as plain(). */
export function any({ type, ...detail }: Detail): object {
  return { '@type': `type.googleapis.com/google.rpc.${type}`, ...(plain(detail) as object) };
}
