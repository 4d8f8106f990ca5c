package dev.threadbus.client;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;

/**
 * PEM files for connections with TLS. Each may be null. They are not used for plaintext.
 *
 * @param caFile the certificates to trust, instead of the JVM's
 * @param clientCert this client's certificate, if the server requires one
 * @param clientKey the key of {@code clientCert}, in PKCS #8
 */
public record TlsFiles(Path caFile, Path clientCert, Path clientKey) {
  static final TlsFiles NONE = new TlsFiles(null);

  /** Trusts the certificates in {@code caFile}. */
  public TlsFiles(Path caFile) {
    this(caFile, null, null);
  }

  /** Reads the files. Throws BusException INVALID_ARGUMENT. */
  ChannelCredentials credentials(Address address) {
    if ((clientCert == null) != (clientKey == null)) {
      throw Address.misused("clientCert and clientKey are given together, or not at all");
    }
    if (!address.secure()) {
      return InsecureChannelCredentials.create();
    }
    var builder = TlsChannelCredentials.newBuilder();
    try {
      if (caFile != null) {
        builder.trustManager(certificates("caFile", caFile));
      }
      if (clientCert != null) {
        builder.keyManager(certificates("clientCert", clientCert), key());
      }
      return builder.build();
    } catch (IOException error) {
      throw Address.misused(this + ": " + error);
    }
  }

  private static InputStream certificates(String option, Path file) {
    byte[] pem = read(option, file);
    try {
      var parser = CertificateFactory.getInstance("X.509");
      if (parser.generateCertificates(new ByteArrayInputStream(pem)).isEmpty()) {
        throw Address.misused(option + ": " + file + " has no certificate in PEM");
      }
    } catch (CertificateException error) {
      throw Address.misused(option + ": " + file + ": " + error.getMessage());
    }
    return new ByteArrayInputStream(pem);
  }

  private InputStream key() {
    byte[] pem = read("clientKey", clientKey);
    if (!new String(pem, StandardCharsets.ISO_8859_1).contains("-----BEGIN PRIVATE KEY-----")) {
      throw Address.misused("clientKey: " + clientKey + " has no key in PKCS #8 and PEM; "
          + "openssl pkcs8 -topk8 -nocrypt converts other keys");
    }
    return new ByteArrayInputStream(pem);
  }

  private static byte[] read(String option, Path file) {
    try {
      return Files.readAllBytes(file);
    } catch (IOException error) {
      throw Address.misused(option + ": " + error);
    }
  }
}
