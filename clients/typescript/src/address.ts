/** Server addresses: their forms, and which of them use TLS. */
import { isIPv4, isIPv6 } from 'node:net';
import { status } from '@grpc/grpc-js';
import { BusError } from './errors.js';

const PORT = 7420; // the default
/** A name, an IPv4 address, or an IPv6 address in brackets; optionally a port. */
const HOST_PORT = /^(\[[0-9A-Fa-f:.%\w]+\]|[^\s/:[\]]+)(?::(\d{1,5}))?$/;

export interface Address {
  /** HOST:PORT or unix:PATH. */
  endpoint: string;
  /** Whether connections use TLS. */
  secure: boolean;
  /** Whether it is on this machine, as spelled: a name may resolve to anything. */
  local: boolean;
}

/**
 * Parses HOST, HOST:PORT or unix:PATH. It uses TLS as its scheme, `tls://` or `plaintext://`, says,
 * or, without one, everywhere but on loopback and Unix sockets. Throws BusError INVALID_ARGUMENT.
 */
export function parseAddress(address: string): Address {
  if (/^unix:./.test(address)) return { endpoint: address, secure: false, local: true };
  const [, scheme, rest] = /^(?:(.*?):\/\/)?(.*)$/s.exec(address)!;
  const [, host, port = PORT] = isIPv6(rest!) ? ['', `[${rest}]`] : HOST_PORT.exec(rest!) ?? [];
  const known = scheme === undefined || scheme === 'tls' || scheme === 'plaintext';
  if (!known || !host || Number(port) < 1 || Number(port) > 65_535) {
    const hint = known ? ', with a PORT from 1 to 65535' : `: leave out ${scheme}://`;
    throw misused(`${JSON.stringify(address)} is neither HOST, HOST:PORT nor unix:PATH${hint}`);
  }
  const local = /^localhost$/i.test(host) || isIPv4(host) && host.startsWith('127.')
    || host === '[::1]';
  return { endpoint: `${host}:${port}`, secure: scheme ? scheme === 'tls' : !local, local };
}

/** Returns the error for an invalid argument of the client. */
export function misused(message: string): BusError {
  return BusError.certain(status.INVALID_ARGUMENT, message);
}
