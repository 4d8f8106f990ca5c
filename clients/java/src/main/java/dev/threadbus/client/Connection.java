package dev.threadbus.client;

import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/** The channel, which is made anew when the server falls silent, and the token of its calls. */
final class Connection {
  private static final Pattern LOCAL = Pattern.compile("(127\\.|localhost:|\\[::1]|unix:).*");
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final String address;
  private final ChannelCredentials credentials;
  private ManagedChannel channel;
  private boolean closed;
  private volatile String token;

  Connection(String address, String token, ChannelCredentials credentials) {
    this.address = address;
    this.token = token;
    this.credentials = credentials;
    channel = connect();
  }

  synchronized ManagedChannel channel() {
    return channel;
  }

  synchronized boolean isClosed() {
    return closed;
  }

  void setToken(String token) {
    this.token = token;
  }

  /** The channel, with the token as it is now in each call's metadata. */
  Channel authorized(ManagedChannel channel) {
    Metadata headers = new Metadata();
    if (!token.isEmpty()) {
      headers.put(AUTHORIZATION, "Bearer " + token);
    }
    return ClientInterceptors.intercept(channel,
        MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  /**
   * Ends grpc-java's own pause before the next connect, which grows to 120 s and cannot be set. Who
   * comes again has paused already, for 2 s at most. That is also why waits are not wait-for-ready
   * here: they would sit that pause out.
   */
  void connectNow() {
    channel().resetConnectBackoff();
  }

  /** grpc-java waits long for a connection that was accepted and then says nothing. */
  synchronized void renew(ManagedChannel silent) {
    if (channel == silent && !closed) {
      channel = connect();
      silent.shutdown(); // calls under way on it go on
    }
  }

  synchronized void close() {
    closed = true;
    channel.shutdownNow();
  }

  private ManagedChannel connect() {
    var builder = Grpc.newChannelBuilder(address, credentials)
        .keepAliveTime(30, TimeUnit.SECONDS) // by default never; the server takes one every 10 s
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .keepAliveWithoutCalls(true)
        .maxInboundMessageSize(16 << 20); // by default 4 MiB
    if (LOCAL.matcher(address).matches()) {
      builder.proxyDetector(target -> null); // else a proxy set for the JVM takes local calls, too
    }
    return builder.build();
  }
}
