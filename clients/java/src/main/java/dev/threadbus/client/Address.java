package dev.threadbus.client;

import io.grpc.Status;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A parsed address: HOST:PORT or unix:PATH; whether it uses TLS; whether it is on this machine. */
record Address(String endpoint, boolean secure, boolean local) {
  private static final int PORT = 7420; // the default
  /** A name, an IPv4 address, or an IPv6 address in brackets; optionally a port. */
  private static final Pattern HOST_PORT =
      Pattern.compile("(\\[[0-9A-Fa-f:.%\\w]+]|[^\\s/:\\[\\]]+)(?::(\\d{1,5}))?");
  /** This machine, as spelled: a name may resolve to anything. */
  private static final Pattern LOCAL = Pattern.compile(
      "(?i)localhost|127(\\.(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)){3}|\\[::1]");

  /**
   * Parses HOST, HOST:PORT or unix:PATH. It uses TLS as its scheme, {@code tls://} or
   * {@code plaintext://}, says, or, without one, everywhere but on loopback and Unix sockets.
   */
  static Address parse(String address) {
    if (address.startsWith("unix:") && !address.equals("unix:")) {
      return new Address(address, false, true);
    }
    String[] parts = address.split("://", 2);
    String scheme = parts.length == 2 ? parts[0] : null;
    String rest = parts[parts.length - 1];
    boolean known = scheme == null || scheme.equals("tls") || scheme.equals("plaintext");
    Matcher found = HOST_PORT.matcher(isIpv6(rest) ? "[" + rest + "]" : rest);
    String port = found.matches() && found.group(2) != null ? found.group(2) : "" + PORT;
    int number = Integer.parseInt(port);
    if (!known || !found.matches() || number < 1 || number > 65_535) {
      throw misused("\"" + address + "\" is neither HOST, HOST:PORT nor unix:PATH"
          + (known ? ", with a PORT from 1 to 65535" : ": leave out " + scheme + "://"));
    }
    String host = found.group(1);
    boolean local = LOCAL.matcher(host).matches();
    boolean secure = scheme == null ? !local : scheme.equals("tls");
    return new Address(host + ":" + port, secure, local);
  }

  private static boolean isIpv6(String text) {
    try {
      // With two colons it is not a name, so that it is not looked up.
      return text.matches("[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
          && InetAddress.getByName(text) != null;
    } catch (UnknownHostException invalid) {
      return false;
    }
  }

  /** Returns the exception for an invalid argument of the client. */
  static BusException misused(String message) {
    return new BusException(
        Status.INVALID_ARGUMENT.withDescription(message).asRuntimeException());
  }
}
