package dev.threadbus.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Lets operators issue tokens, and shows them what the servers of a store are doing.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class AdminServiceGrpc {

  private AdminServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "threadbus.v1.AdminService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.CreateTokenRequest,
      dev.threadbus.v1.CreateTokenResponse> getCreateTokenMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CreateToken",
      requestType = dev.threadbus.v1.CreateTokenRequest.class,
      responseType = dev.threadbus.v1.CreateTokenResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.CreateTokenRequest,
      dev.threadbus.v1.CreateTokenResponse> getCreateTokenMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.CreateTokenRequest, dev.threadbus.v1.CreateTokenResponse> getCreateTokenMethod;
    if ((getCreateTokenMethod = AdminServiceGrpc.getCreateTokenMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getCreateTokenMethod = AdminServiceGrpc.getCreateTokenMethod) == null) {
          AdminServiceGrpc.getCreateTokenMethod = getCreateTokenMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.CreateTokenRequest, dev.threadbus.v1.CreateTokenResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CreateToken"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.CreateTokenRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.CreateTokenResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("CreateToken"))
              .build();
        }
      }
    }
    return getCreateTokenMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.ListTokensRequest,
      dev.threadbus.v1.ListTokensResponse> getListTokensMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListTokens",
      requestType = dev.threadbus.v1.ListTokensRequest.class,
      responseType = dev.threadbus.v1.ListTokensResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.ListTokensRequest,
      dev.threadbus.v1.ListTokensResponse> getListTokensMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.ListTokensRequest, dev.threadbus.v1.ListTokensResponse> getListTokensMethod;
    if ((getListTokensMethod = AdminServiceGrpc.getListTokensMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getListTokensMethod = AdminServiceGrpc.getListTokensMethod) == null) {
          AdminServiceGrpc.getListTokensMethod = getListTokensMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.ListTokensRequest, dev.threadbus.v1.ListTokensResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListTokens"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListTokensRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListTokensResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("ListTokens"))
              .build();
        }
      }
    }
    return getListTokensMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.RevokeTokenRequest,
      dev.threadbus.v1.RevokeTokenResponse> getRevokeTokenMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RevokeToken",
      requestType = dev.threadbus.v1.RevokeTokenRequest.class,
      responseType = dev.threadbus.v1.RevokeTokenResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.RevokeTokenRequest,
      dev.threadbus.v1.RevokeTokenResponse> getRevokeTokenMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.RevokeTokenRequest, dev.threadbus.v1.RevokeTokenResponse> getRevokeTokenMethod;
    if ((getRevokeTokenMethod = AdminServiceGrpc.getRevokeTokenMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getRevokeTokenMethod = AdminServiceGrpc.getRevokeTokenMethod) == null) {
          AdminServiceGrpc.getRevokeTokenMethod = getRevokeTokenMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.RevokeTokenRequest, dev.threadbus.v1.RevokeTokenResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RevokeToken"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.RevokeTokenRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.RevokeTokenResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("RevokeToken"))
              .build();
        }
      }
    }
    return getRevokeTokenMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.ListWaitsRequest,
      dev.threadbus.v1.ListWaitsResponse> getListWaitsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListWaits",
      requestType = dev.threadbus.v1.ListWaitsRequest.class,
      responseType = dev.threadbus.v1.ListWaitsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.ListWaitsRequest,
      dev.threadbus.v1.ListWaitsResponse> getListWaitsMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.ListWaitsRequest, dev.threadbus.v1.ListWaitsResponse> getListWaitsMethod;
    if ((getListWaitsMethod = AdminServiceGrpc.getListWaitsMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getListWaitsMethod = AdminServiceGrpc.getListWaitsMethod) == null) {
          AdminServiceGrpc.getListWaitsMethod = getListWaitsMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.ListWaitsRequest, dev.threadbus.v1.ListWaitsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListWaits"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListWaitsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListWaitsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("ListWaits"))
              .build();
        }
      }
    }
    return getListWaitsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.GetStatusRequest,
      dev.threadbus.v1.GetStatusResponse> getGetStatusMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetStatus",
      requestType = dev.threadbus.v1.GetStatusRequest.class,
      responseType = dev.threadbus.v1.GetStatusResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.GetStatusRequest,
      dev.threadbus.v1.GetStatusResponse> getGetStatusMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.GetStatusRequest, dev.threadbus.v1.GetStatusResponse> getGetStatusMethod;
    if ((getGetStatusMethod = AdminServiceGrpc.getGetStatusMethod) == null) {
      synchronized (AdminServiceGrpc.class) {
        if ((getGetStatusMethod = AdminServiceGrpc.getGetStatusMethod) == null) {
          AdminServiceGrpc.getGetStatusMethod = getGetStatusMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.GetStatusRequest, dev.threadbus.v1.GetStatusResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetStatus"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.GetStatusRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.GetStatusResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AdminServiceMethodDescriptorSupplier("GetStatus"))
              .build();
        }
      }
    }
    return getGetStatusMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static AdminServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AdminServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AdminServiceStub>() {
        @java.lang.Override
        public AdminServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AdminServiceStub(channel, callOptions);
        }
      };
    return AdminServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static AdminServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AdminServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AdminServiceBlockingV2Stub>() {
        @java.lang.Override
        public AdminServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AdminServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return AdminServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static AdminServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AdminServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AdminServiceBlockingStub>() {
        @java.lang.Override
        public AdminServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AdminServiceBlockingStub(channel, callOptions);
        }
      };
    return AdminServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static AdminServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AdminServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AdminServiceFutureStub>() {
        @java.lang.Override
        public AdminServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AdminServiceFutureStub(channel, callOptions);
        }
      };
    return AdminServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Lets operators issue tokens, and shows them what the servers of a store are doing.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Creates a token for an agent or an operator, and returns it with its secret. An agent that is not
     * registered is registered, as kind AGENT, even if its name was unregistered before. What a token
     * may do never changes: create another one, and revoke this.
     * Not idempotent: if the response is lost, the token exists, but nobody knows its secret. Look for
     * it with ListTokens, revoke it, and create another one.
     * </pre>
     */
    default void createToken(dev.threadbus.v1.CreateTokenRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.CreateTokenResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCreateTokenMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a page of the tokens that are valid, without their secrets, newest first.
     * </pre>
     */
    default void listTokens(dev.threadbus.v1.ListTokensRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListTokensResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListTokensMethod(), responseObserver);
    }

    /**
     * <pre>
     * Revokes a token, and those that it replaced by RotateToken. On every server of the store, streams
     * that were opened with them end within a second (or the server's --fallback-interval), with
     * UNAUTHENTICATED / TOKEN_INVALID and without `ending`; posts that were accepted are stored and
     * answered. The token that the call is made with cannot be revoked. Returns INVALID_ARGUMENT /
     * VALIDATION_FAILED if no token has the id, as after an earlier call.
     * A server whose operator's token file has a token that was revoked does not start.
     * </pre>
     */
    default void revokeToken(dev.threadbus.v1.RevokeTokenRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.RevokeTokenResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRevokeTokenMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a page of the open waits on this server and on others of the same store: which agents
     * wait on which threads, and since when. Those on other servers are as of their last checkpoints.
     * </pre>
     */
    default void listWaits(dev.threadbus.v1.ListWaitsRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListWaitsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListWaitsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns how this server does: how much it has posted and delivered lately, how fast, and how
     * large its store is. With `--auth open`, a caller without a token may call it, too, over loopback
     * or a Unix socket. Succeeds even if the store fails.
     * </pre>
     */
    default void getStatus(dev.threadbus.v1.GetStatusRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.GetStatusResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetStatusMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service AdminService.
   * <pre>
   * Lets operators issue tokens, and shows them what the servers of a store are doing.
   * </pre>
   */
  public static abstract class AdminServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return AdminServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service AdminService.
   * <pre>
   * Lets operators issue tokens, and shows them what the servers of a store are doing.
   * </pre>
   */
  public static final class AdminServiceStub
      extends io.grpc.stub.AbstractAsyncStub<AdminServiceStub> {
    private AdminServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AdminServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AdminServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a token for an agent or an operator, and returns it with its secret. An agent that is not
     * registered is registered, as kind AGENT, even if its name was unregistered before. What a token
     * may do never changes: create another one, and revoke this.
     * Not idempotent: if the response is lost, the token exists, but nobody knows its secret. Look for
     * it with ListTokens, revoke it, and create another one.
     * </pre>
     */
    public void createToken(dev.threadbus.v1.CreateTokenRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.CreateTokenResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCreateTokenMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a page of the tokens that are valid, without their secrets, newest first.
     * </pre>
     */
    public void listTokens(dev.threadbus.v1.ListTokensRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListTokensResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListTokensMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Revokes a token, and those that it replaced by RotateToken. On every server of the store, streams
     * that were opened with them end within a second (or the server's --fallback-interval), with
     * UNAUTHENTICATED / TOKEN_INVALID and without `ending`; posts that were accepted are stored and
     * answered. The token that the call is made with cannot be revoked. Returns INVALID_ARGUMENT /
     * VALIDATION_FAILED if no token has the id, as after an earlier call.
     * A server whose operator's token file has a token that was revoked does not start.
     * </pre>
     */
    public void revokeToken(dev.threadbus.v1.RevokeTokenRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.RevokeTokenResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getRevokeTokenMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a page of the open waits on this server and on others of the same store: which agents
     * wait on which threads, and since when. Those on other servers are as of their last checkpoints.
     * </pre>
     */
    public void listWaits(dev.threadbus.v1.ListWaitsRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListWaitsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListWaitsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns how this server does: how much it has posted and delivered lately, how fast, and how
     * large its store is. With `--auth open`, a caller without a token may call it, too, over loopback
     * or a Unix socket. Succeeds even if the store fails.
     * </pre>
     */
    public void getStatus(dev.threadbus.v1.GetStatusRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.GetStatusResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetStatusMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service AdminService.
   * <pre>
   * Lets operators issue tokens, and shows them what the servers of a store are doing.
   * </pre>
   */
  public static final class AdminServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<AdminServiceBlockingV2Stub> {
    private AdminServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AdminServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AdminServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a token for an agent or an operator, and returns it with its secret. An agent that is not
     * registered is registered, as kind AGENT, even if its name was unregistered before. What a token
     * may do never changes: create another one, and revoke this.
     * Not idempotent: if the response is lost, the token exists, but nobody knows its secret. Look for
     * it with ListTokens, revoke it, and create another one.
     * </pre>
     */
    public dev.threadbus.v1.CreateTokenResponse createToken(dev.threadbus.v1.CreateTokenRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCreateTokenMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of the tokens that are valid, without their secrets, newest first.
     * </pre>
     */
    public dev.threadbus.v1.ListTokensResponse listTokens(dev.threadbus.v1.ListTokensRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListTokensMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Revokes a token, and those that it replaced by RotateToken. On every server of the store, streams
     * that were opened with them end within a second (or the server's --fallback-interval), with
     * UNAUTHENTICATED / TOKEN_INVALID and without `ending`; posts that were accepted are stored and
     * answered. The token that the call is made with cannot be revoked. Returns INVALID_ARGUMENT /
     * VALIDATION_FAILED if no token has the id, as after an earlier call.
     * A server whose operator's token file has a token that was revoked does not start.
     * </pre>
     */
    public dev.threadbus.v1.RevokeTokenResponse revokeToken(dev.threadbus.v1.RevokeTokenRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getRevokeTokenMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of the open waits on this server and on others of the same store: which agents
     * wait on which threads, and since when. Those on other servers are as of their last checkpoints.
     * </pre>
     */
    public dev.threadbus.v1.ListWaitsResponse listWaits(dev.threadbus.v1.ListWaitsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListWaitsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns how this server does: how much it has posted and delivered lately, how fast, and how
     * large its store is. With `--auth open`, a caller without a token may call it, too, over loopback
     * or a Unix socket. Succeeds even if the store fails.
     * </pre>
     */
    public dev.threadbus.v1.GetStatusResponse getStatus(dev.threadbus.v1.GetStatusRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetStatusMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service AdminService.
   * <pre>
   * Lets operators issue tokens, and shows them what the servers of a store are doing.
   * </pre>
   */
  public static final class AdminServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<AdminServiceBlockingStub> {
    private AdminServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AdminServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AdminServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a token for an agent or an operator, and returns it with its secret. An agent that is not
     * registered is registered, as kind AGENT, even if its name was unregistered before. What a token
     * may do never changes: create another one, and revoke this.
     * Not idempotent: if the response is lost, the token exists, but nobody knows its secret. Look for
     * it with ListTokens, revoke it, and create another one.
     * </pre>
     */
    public dev.threadbus.v1.CreateTokenResponse createToken(dev.threadbus.v1.CreateTokenRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCreateTokenMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of the tokens that are valid, without their secrets, newest first.
     * </pre>
     */
    public dev.threadbus.v1.ListTokensResponse listTokens(dev.threadbus.v1.ListTokensRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListTokensMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Revokes a token, and those that it replaced by RotateToken. On every server of the store, streams
     * that were opened with them end within a second (or the server's --fallback-interval), with
     * UNAUTHENTICATED / TOKEN_INVALID and without `ending`; posts that were accepted are stored and
     * answered. The token that the call is made with cannot be revoked. Returns INVALID_ARGUMENT /
     * VALIDATION_FAILED if no token has the id, as after an earlier call.
     * A server whose operator's token file has a token that was revoked does not start.
     * </pre>
     */
    public dev.threadbus.v1.RevokeTokenResponse revokeToken(dev.threadbus.v1.RevokeTokenRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getRevokeTokenMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of the open waits on this server and on others of the same store: which agents
     * wait on which threads, and since when. Those on other servers are as of their last checkpoints.
     * </pre>
     */
    public dev.threadbus.v1.ListWaitsResponse listWaits(dev.threadbus.v1.ListWaitsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListWaitsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns how this server does: how much it has posted and delivered lately, how fast, and how
     * large its store is. With `--auth open`, a caller without a token may call it, too, over loopback
     * or a Unix socket. Succeeds even if the store fails.
     * </pre>
     */
    public dev.threadbus.v1.GetStatusResponse getStatus(dev.threadbus.v1.GetStatusRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetStatusMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service AdminService.
   * <pre>
   * Lets operators issue tokens, and shows them what the servers of a store are doing.
   * </pre>
   */
  public static final class AdminServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<AdminServiceFutureStub> {
    private AdminServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AdminServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AdminServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a token for an agent or an operator, and returns it with its secret. An agent that is not
     * registered is registered, as kind AGENT, even if its name was unregistered before. What a token
     * may do never changes: create another one, and revoke this.
     * Not idempotent: if the response is lost, the token exists, but nobody knows its secret. Look for
     * it with ListTokens, revoke it, and create another one.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.CreateTokenResponse> createToken(
        dev.threadbus.v1.CreateTokenRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCreateTokenMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a page of the tokens that are valid, without their secrets, newest first.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.ListTokensResponse> listTokens(
        dev.threadbus.v1.ListTokensRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListTokensMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Revokes a token, and those that it replaced by RotateToken. On every server of the store, streams
     * that were opened with them end within a second (or the server's --fallback-interval), with
     * UNAUTHENTICATED / TOKEN_INVALID and without `ending`; posts that were accepted are stored and
     * answered. The token that the call is made with cannot be revoked. Returns INVALID_ARGUMENT /
     * VALIDATION_FAILED if no token has the id, as after an earlier call.
     * A server whose operator's token file has a token that was revoked does not start.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.RevokeTokenResponse> revokeToken(
        dev.threadbus.v1.RevokeTokenRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getRevokeTokenMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a page of the open waits on this server and on others of the same store: which agents
     * wait on which threads, and since when. Those on other servers are as of their last checkpoints.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.ListWaitsResponse> listWaits(
        dev.threadbus.v1.ListWaitsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListWaitsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns how this server does: how much it has posted and delivered lately, how fast, and how
     * large its store is. With `--auth open`, a caller without a token may call it, too, over loopback
     * or a Unix socket. Succeeds even if the store fails.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.GetStatusResponse> getStatus(
        dev.threadbus.v1.GetStatusRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetStatusMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_CREATE_TOKEN = 0;
  private static final int METHODID_LIST_TOKENS = 1;
  private static final int METHODID_REVOKE_TOKEN = 2;
  private static final int METHODID_LIST_WAITS = 3;
  private static final int METHODID_GET_STATUS = 4;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final AsyncService serviceImpl;
    private final int methodId;

    MethodHandlers(AsyncService serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_CREATE_TOKEN:
          serviceImpl.createToken((dev.threadbus.v1.CreateTokenRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.CreateTokenResponse>) responseObserver);
          break;
        case METHODID_LIST_TOKENS:
          serviceImpl.listTokens((dev.threadbus.v1.ListTokensRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.ListTokensResponse>) responseObserver);
          break;
        case METHODID_REVOKE_TOKEN:
          serviceImpl.revokeToken((dev.threadbus.v1.RevokeTokenRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.RevokeTokenResponse>) responseObserver);
          break;
        case METHODID_LIST_WAITS:
          serviceImpl.listWaits((dev.threadbus.v1.ListWaitsRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.ListWaitsResponse>) responseObserver);
          break;
        case METHODID_GET_STATUS:
          serviceImpl.getStatus((dev.threadbus.v1.GetStatusRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.GetStatusResponse>) responseObserver);
          break;
        default:
          throw new AssertionError();
      }
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public io.grpc.stub.StreamObserver<Req> invoke(
        io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getCreateTokenMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.CreateTokenRequest,
              dev.threadbus.v1.CreateTokenResponse>(
                service, METHODID_CREATE_TOKEN)))
        .addMethod(
          getListTokensMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.ListTokensRequest,
              dev.threadbus.v1.ListTokensResponse>(
                service, METHODID_LIST_TOKENS)))
        .addMethod(
          getRevokeTokenMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.RevokeTokenRequest,
              dev.threadbus.v1.RevokeTokenResponse>(
                service, METHODID_REVOKE_TOKEN)))
        .addMethod(
          getListWaitsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.ListWaitsRequest,
              dev.threadbus.v1.ListWaitsResponse>(
                service, METHODID_LIST_WAITS)))
        .addMethod(
          getGetStatusMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.GetStatusRequest,
              dev.threadbus.v1.GetStatusResponse>(
                service, METHODID_GET_STATUS)))
        .build();
  }

  private static abstract class AdminServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    AdminServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.threadbus.v1.AdminServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("AdminService");
    }
  }

  private static final class AdminServiceFileDescriptorSupplier
      extends AdminServiceBaseDescriptorSupplier {
    AdminServiceFileDescriptorSupplier() {}
  }

  private static final class AdminServiceMethodDescriptorSupplier
      extends AdminServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    AdminServiceMethodDescriptorSupplier(java.lang.String methodName) {
      this.methodName = methodName;
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.MethodDescriptor getMethodDescriptor() {
      return getServiceDescriptor().findMethodByName(methodName);
    }
  }

  private static volatile io.grpc.ServiceDescriptor serviceDescriptor;

  public static io.grpc.ServiceDescriptor getServiceDescriptor() {
    io.grpc.ServiceDescriptor result = serviceDescriptor;
    if (result == null) {
      synchronized (AdminServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new AdminServiceFileDescriptorSupplier())
              .addMethod(getCreateTokenMethod())
              .addMethod(getListTokensMethod())
              .addMethod(getRevokeTokenMethod())
              .addMethod(getListWaitsMethod())
              .addMethod(getGetStatusMethod())
              .build();
        }
      }
    }
    return result;
  }
}
