/** The credentials of a connection: PEM files for TLS. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import { type Address, misused } from './address.js';

/** PEM files for connections with TLS. They are not used for plaintext. */
export interface TlsFiles {
  /** A PEM file with the certificates to trust, instead of Node's. */
  caFile?: string | undefined;
  /** A PEM file with this client's certificate, if the server requires one. */
  clientCert?: string | undefined;
  /** A PEM file with the key of `clientCert`. */
  clientKey?: string | undefined;
}

/** Reads the files. Throws BusError INVALID_ARGUMENT. */
export function credentialsFor(
  { secure }: Address, { caFile, clientCert, clientKey }: TlsFiles,
): ChannelCredentials {
  if (!clientCert !== !clientKey) {
    throw misused('clientCert and clientKey are given together, or not at all');
  }
  if (!secure) return credentials.createInsecure();
  const certificate = (pem: Buffer) => new X509Certificate(pem);
  const ca = read('caFile', caFile, certificate);
  const cert = read('clientCert', clientCert, certificate);
  const key = read('clientKey', clientKey, createPrivateKey);
  try {
    return credentials.createSsl(ca, key, cert);
  } catch (error) {
    const files = [caFile, clientCert, clientKey].filter(Boolean).join(', ');
    throw misused(`${files}: ${(error as Error).message}`);
  }
}

/** Returns the content of a file that can be parsed, or null without a file. */
function read(
  option: string, file: string | undefined, parse: (pem: Buffer) => unknown,
): Buffer | null {
  if (!file) return null;
  try {
    const pem = readFileSync(file);
    parse(pem);
    return pem;
  } catch (error) {
    throw misused(`${option}: ${file}: ${(error as Error).message}`);
  }
}
