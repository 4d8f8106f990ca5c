/** Refuses text that UTF-8 cannot hold, half of a surrogate pair: the stubs alone would send U+FFFD
 * in its place. */
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { Any } from '../gen/google/protobuf/any.js';
import { BadRequest, ErrorInfo } from '../gen/google/rpc/error_details.js';
import { Status } from '../gen/google/rpc/status.js';
import { BusError } from './errors.js';

const HALF = /\p{Surrogate}/u; // does not match a whole pair
const TYPES = 'type.googleapis.com/google.rpc.';

/** Throws BusError INVALID_ARGUMENT with the field's path if a text cannot be sent. */
export function checkText(request: unknown): void {
  const field = path(request);
  if (field === undefined) return;
  const [code, description] = [status.INVALID_ARGUMENT, 'half of a surrogate pair'];
  const message = `${field}: ${description} is no text`;
  const info = ErrorInfo.create({ reason: 'VALIDATION_FAILED', domain: 'threadbus' });
  const refused = BadRequest.create({ fieldViolations: [{ field, description }] });
  const details = [
    Any.create({ typeUrl: `${TYPES}ErrorInfo`, value: bytes(ErrorInfo.encode(info)) }),
    Any.create({ typeUrl: `${TYPES}BadRequest`, value: bytes(BadRequest.encode(refused)) }),
  ];
  const metadata = new Metadata();
  const said = Status.create({ code, message, details });
  metadata.set('grpc-status-details-bin', bytes(Status.encode(said)));
  throw new BusError({ code, details: message, metadata } as ServiceError);
}

/** Returns the path of such a text, named as in the protos, or undefined. */
function path(value: unknown, at = '', map = false): string | undefined {
  if (typeof value === 'string') return HALF.test(value) ? at : undefined;
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return undefined;
  for (const [key, item] of Object.entries(value)) {
    const inside = map ? `${at}[${JSON.stringify(key)}]`
      : Array.isArray(value) ? `${at}[${key}]`
      : `${at}${at && '.'}${key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
    if (map && HALF.test(key)) return inside;
    const found = path(item, inside, key === 'labels'); // the contract's only maps
    if (found !== undefined) return found;
  }
  return undefined;
}

const bytes = (writer: { finish(): Uint8Array }) => Buffer.from(writer.finish());
