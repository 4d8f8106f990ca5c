package dev.threadbus.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Posts messages, waits for them, reads them, and renews an agent's lease.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class BusServiceGrpc {

  private BusServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "threadbus.v1.BusService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.PostMessageRequest,
      dev.threadbus.v1.PostMessageResponse> getPostMessageMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "PostMessage",
      requestType = dev.threadbus.v1.PostMessageRequest.class,
      responseType = dev.threadbus.v1.PostMessageResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.PostMessageRequest,
      dev.threadbus.v1.PostMessageResponse> getPostMessageMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.PostMessageRequest, dev.threadbus.v1.PostMessageResponse> getPostMessageMethod;
    if ((getPostMessageMethod = BusServiceGrpc.getPostMessageMethod) == null) {
      synchronized (BusServiceGrpc.class) {
        if ((getPostMessageMethod = BusServiceGrpc.getPostMessageMethod) == null) {
          BusServiceGrpc.getPostMessageMethod = getPostMessageMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.PostMessageRequest, dev.threadbus.v1.PostMessageResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "PostMessage"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.PostMessageRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.PostMessageResponse.getDefaultInstance()))
              .setSchemaDescriptor(new BusServiceMethodDescriptorSupplier("PostMessage"))
              .build();
        }
      }
    }
    return getPostMessageMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.PostMessagesRequest,
      dev.threadbus.v1.PostMessagesResponse> getPostMessagesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "PostMessages",
      requestType = dev.threadbus.v1.PostMessagesRequest.class,
      responseType = dev.threadbus.v1.PostMessagesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.BIDI_STREAMING)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.PostMessagesRequest,
      dev.threadbus.v1.PostMessagesResponse> getPostMessagesMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.PostMessagesRequest, dev.threadbus.v1.PostMessagesResponse> getPostMessagesMethod;
    if ((getPostMessagesMethod = BusServiceGrpc.getPostMessagesMethod) == null) {
      synchronized (BusServiceGrpc.class) {
        if ((getPostMessagesMethod = BusServiceGrpc.getPostMessagesMethod) == null) {
          BusServiceGrpc.getPostMessagesMethod = getPostMessagesMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.PostMessagesRequest, dev.threadbus.v1.PostMessagesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.BIDI_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "PostMessages"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.PostMessagesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.PostMessagesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new BusServiceMethodDescriptorSupplier("PostMessages"))
              .build();
        }
      }
    }
    return getPostMessagesMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.WaitMessagesRequest,
      dev.threadbus.v1.WaitMessagesResponse> getWaitMessagesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WaitMessages",
      requestType = dev.threadbus.v1.WaitMessagesRequest.class,
      responseType = dev.threadbus.v1.WaitMessagesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.WaitMessagesRequest,
      dev.threadbus.v1.WaitMessagesResponse> getWaitMessagesMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.WaitMessagesRequest, dev.threadbus.v1.WaitMessagesResponse> getWaitMessagesMethod;
    if ((getWaitMessagesMethod = BusServiceGrpc.getWaitMessagesMethod) == null) {
      synchronized (BusServiceGrpc.class) {
        if ((getWaitMessagesMethod = BusServiceGrpc.getWaitMessagesMethod) == null) {
          BusServiceGrpc.getWaitMessagesMethod = getWaitMessagesMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.WaitMessagesRequest, dev.threadbus.v1.WaitMessagesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WaitMessages"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.WaitMessagesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.WaitMessagesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new BusServiceMethodDescriptorSupplier("WaitMessages"))
              .build();
        }
      }
    }
    return getWaitMessagesMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.HeartbeatRequest,
      dev.threadbus.v1.HeartbeatResponse> getHeartbeatMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Heartbeat",
      requestType = dev.threadbus.v1.HeartbeatRequest.class,
      responseType = dev.threadbus.v1.HeartbeatResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.HeartbeatRequest,
      dev.threadbus.v1.HeartbeatResponse> getHeartbeatMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.HeartbeatRequest, dev.threadbus.v1.HeartbeatResponse> getHeartbeatMethod;
    if ((getHeartbeatMethod = BusServiceGrpc.getHeartbeatMethod) == null) {
      synchronized (BusServiceGrpc.class) {
        if ((getHeartbeatMethod = BusServiceGrpc.getHeartbeatMethod) == null) {
          BusServiceGrpc.getHeartbeatMethod = getHeartbeatMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.HeartbeatRequest, dev.threadbus.v1.HeartbeatResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Heartbeat"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.HeartbeatRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.HeartbeatResponse.getDefaultInstance()))
              .setSchemaDescriptor(new BusServiceMethodDescriptorSupplier("Heartbeat"))
              .build();
        }
      }
    }
    return getHeartbeatMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.ListMessagesRequest,
      dev.threadbus.v1.ListMessagesResponse> getListMessagesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListMessages",
      requestType = dev.threadbus.v1.ListMessagesRequest.class,
      responseType = dev.threadbus.v1.ListMessagesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.ListMessagesRequest,
      dev.threadbus.v1.ListMessagesResponse> getListMessagesMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.ListMessagesRequest, dev.threadbus.v1.ListMessagesResponse> getListMessagesMethod;
    if ((getListMessagesMethod = BusServiceGrpc.getListMessagesMethod) == null) {
      synchronized (BusServiceGrpc.class) {
        if ((getListMessagesMethod = BusServiceGrpc.getListMessagesMethod) == null) {
          BusServiceGrpc.getListMessagesMethod = getListMessagesMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.ListMessagesRequest, dev.threadbus.v1.ListMessagesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListMessages"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListMessagesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListMessagesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new BusServiceMethodDescriptorSupplier("ListMessages"))
              .build();
        }
      }
    }
    return getListMessagesMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.GetMessageRequest,
      dev.threadbus.v1.GetMessageResponse> getGetMessageMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetMessage",
      requestType = dev.threadbus.v1.GetMessageRequest.class,
      responseType = dev.threadbus.v1.GetMessageResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.GetMessageRequest,
      dev.threadbus.v1.GetMessageResponse> getGetMessageMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.GetMessageRequest, dev.threadbus.v1.GetMessageResponse> getGetMessageMethod;
    if ((getGetMessageMethod = BusServiceGrpc.getGetMessageMethod) == null) {
      synchronized (BusServiceGrpc.class) {
        if ((getGetMessageMethod = BusServiceGrpc.getGetMessageMethod) == null) {
          BusServiceGrpc.getGetMessageMethod = getGetMessageMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.GetMessageRequest, dev.threadbus.v1.GetMessageResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetMessage"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.GetMessageRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.GetMessageResponse.getDefaultInstance()))
              .setSchemaDescriptor(new BusServiceMethodDescriptorSupplier("GetMessage"))
              .build();
        }
      }
    }
    return getGetMessageMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.ListRequestsRequest,
      dev.threadbus.v1.ListRequestsResponse> getListRequestsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListRequests",
      requestType = dev.threadbus.v1.ListRequestsRequest.class,
      responseType = dev.threadbus.v1.ListRequestsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.ListRequestsRequest,
      dev.threadbus.v1.ListRequestsResponse> getListRequestsMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.ListRequestsRequest, dev.threadbus.v1.ListRequestsResponse> getListRequestsMethod;
    if ((getListRequestsMethod = BusServiceGrpc.getListRequestsMethod) == null) {
      synchronized (BusServiceGrpc.class) {
        if ((getListRequestsMethod = BusServiceGrpc.getListRequestsMethod) == null) {
          BusServiceGrpc.getListRequestsMethod = getListRequestsMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.ListRequestsRequest, dev.threadbus.v1.ListRequestsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListRequests"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListRequestsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListRequestsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new BusServiceMethodDescriptorSupplier("ListRequests"))
              .build();
        }
      }
    }
    return getListRequestsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.WithdrawRequestRequest,
      dev.threadbus.v1.WithdrawRequestResponse> getWithdrawRequestMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WithdrawRequest",
      requestType = dev.threadbus.v1.WithdrawRequestRequest.class,
      responseType = dev.threadbus.v1.WithdrawRequestResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.WithdrawRequestRequest,
      dev.threadbus.v1.WithdrawRequestResponse> getWithdrawRequestMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.WithdrawRequestRequest, dev.threadbus.v1.WithdrawRequestResponse> getWithdrawRequestMethod;
    if ((getWithdrawRequestMethod = BusServiceGrpc.getWithdrawRequestMethod) == null) {
      synchronized (BusServiceGrpc.class) {
        if ((getWithdrawRequestMethod = BusServiceGrpc.getWithdrawRequestMethod) == null) {
          BusServiceGrpc.getWithdrawRequestMethod = getWithdrawRequestMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.WithdrawRequestRequest, dev.threadbus.v1.WithdrawRequestResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WithdrawRequest"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.WithdrawRequestRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.WithdrawRequestResponse.getDefaultInstance()))
              .setSchemaDescriptor(new BusServiceMethodDescriptorSupplier("WithdrawRequest"))
              .build();
        }
      }
    }
    return getWithdrawRequestMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.GetServerInfoRequest,
      dev.threadbus.v1.GetServerInfoResponse> getGetServerInfoMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetServerInfo",
      requestType = dev.threadbus.v1.GetServerInfoRequest.class,
      responseType = dev.threadbus.v1.GetServerInfoResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.GetServerInfoRequest,
      dev.threadbus.v1.GetServerInfoResponse> getGetServerInfoMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.GetServerInfoRequest, dev.threadbus.v1.GetServerInfoResponse> getGetServerInfoMethod;
    if ((getGetServerInfoMethod = BusServiceGrpc.getGetServerInfoMethod) == null) {
      synchronized (BusServiceGrpc.class) {
        if ((getGetServerInfoMethod = BusServiceGrpc.getGetServerInfoMethod) == null) {
          BusServiceGrpc.getGetServerInfoMethod = getGetServerInfoMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.GetServerInfoRequest, dev.threadbus.v1.GetServerInfoResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetServerInfo"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.GetServerInfoRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.GetServerInfoResponse.getDefaultInstance()))
              .setSchemaDescriptor(new BusServiceMethodDescriptorSupplier("GetServerInfo"))
              .build();
        }
      }
    }
    return getGetServerInfoMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static BusServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<BusServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<BusServiceStub>() {
        @java.lang.Override
        public BusServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new BusServiceStub(channel, callOptions);
        }
      };
    return BusServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static BusServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<BusServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<BusServiceBlockingV2Stub>() {
        @java.lang.Override
        public BusServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new BusServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return BusServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static BusServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<BusServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<BusServiceBlockingStub>() {
        @java.lang.Override
        public BusServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new BusServiceBlockingStub(channel, callOptions);
        }
      };
    return BusServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static BusServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<BusServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<BusServiceFutureStub>() {
        @java.lang.Override
        public BusServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new BusServiceFutureStub(channel, callOptions);
        }
      };
    return BusServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Posts messages, waits for them, reads them, and renews an agent's lease.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Posts one message, and returns its seq once it is committed (GetServerInfoResponse.durability
     * says how durably). The thread must exist. The sender need not have joined it, and becomes a
     * participant unless it is anonymous. Returns:
     *   * NOT_FOUND: THREAD_NOT_FOUND, MESSAGE_NOT_FOUND (reply_to, edit_of), AGENT_NOT_FOUND
     *     (mentions, handoff_to).
     *   * FAILED_PRECONDITION: THREAD_CLOSED, EXPECTED_SEQ_REQUIRED.
     *   * ABORTED / SEQ_CONFLICT: the thread's head is not expected_last_seq.
     *   * ALREADY_EXISTS: REQUEST_ID_REUSED (the request_id was used for a different post),
     *     AGENT_EXISTS (the agent named by on_behalf_of has been unregistered).
     *   * INVALID_ARGUMENT: MESSAGE_TOO_LARGE, CONTENT_BLOCKED.
     *   * OUT_OF_RANGE / CURSOR_INVALID: the seqs are of another epoch than the thread's.
     *   * PERMISSION_DENIED / ACCESS_DENIED: edit_of is another sender's message, or one of
     *     `anonymous`; or on_behalf_of is set by a caller that is not an operator.
     *   * RESOURCE_EXHAUSTED: STORAGE_FULL, RATE_LIMITED, or QUOTA_EXCEEDED when the thread has no
     *     seqs left, or 1,000 open requests to an agent that expect_reply asks.
     * Has no idempotency_level: it may be repeated only with a request_id.
     * </pre>
     */
    default void postMessage(dev.threadbus.v1.PostMessageRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.PostMessageResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getPostMessageMethod(), responseObserver);
    }

    /**
     * <pre>
     * Posts many messages: one response per request, one result per post, both in order. Posts of one
     * stream to one thread get their seqs in the order sent. A batch is not a transaction: a refused
     * post does not affect the others; its result has the status that PostMessage would return. A
     * server that is shutting down returns the results of the posts it has accepted, then ends the
     * stream with UNAVAILABLE / DRAINING: posts without a result were not accepted.
     * Has no idempotency_level: if the stream ends in any other way, the outcome of posts without a
     * result is unknown; each may be repeated with its request_id.
     * </pre>
     */
    default io.grpc.stub.StreamObserver<dev.threadbus.v1.PostMessagesRequest> postMessages(
        io.grpc.stub.StreamObserver<dev.threadbus.v1.PostMessagesResponse> responseObserver) {
      return io.grpc.stub.ServerCalls.asyncUnimplementedStreamingCall(getPostMessagesMethod(), responseObserver);
    }

    /**
     * <pre>
     * Replays the entries after the cursors, then streams new ones. Messages of one thread come in
     * order. Waiting consumes nothing: two waits of one agent both get every message. Nor does it
     * change read_seq: the agent reports what it has read with Heartbeat or based_on_seq, and
     * continues from there when it joins again. The stream ends with an `ending` frame and OK, or
     * with an error. Returns:
     *   * NOT_FOUND / THREAD_NOT_FOUND: a thread does not exist, or was deleted during the wait.
     *   * RESOURCE_EXHAUSTED / QUOTA_EXCEEDED: the agent has max_open_waits open, or all anonymous
     *     callers together have max_anonymous_waits open.
     *   * UNAUTHENTICATED: the token expired or was revoked during the wait.
     * A cursor that is not valid is not an error: see WaitResync.
     * Idempotent: the same cursors return the same messages, and delivered_seq never decreases.
     * </pre>
     */
    default void waitMessages(dev.threadbus.v1.WaitMessagesRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.WaitMessagesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWaitMessagesMethod(), responseObserver);
    }

    /**
     * <pre>
     * Renews the caller's lease, records its state and what it has read, and returns the threads in
     * which it has not read what wakes it. Records and renews nothing for anonymous callers.
     * Idempotent: state and lease are replaced, and read positions never decrease.
     * </pre>
     */
    default void heartbeat(dev.threadbus.v1.HeartbeatRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.HeartbeatResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getHeartbeatMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a page of a thread, in ascending order. Does not change the caller's read_seq. Returns
     * NOT_FOUND / THREAD_NOT_FOUND, and OUT_OF_RANGE / CURSOR_INVALID if after_seq is past the head
     * or the epoch does not match.
     * Idempotent. Not NO_SIDE_EFFECTS, as it raises the caller's delivered_seq.
     * </pre>
     */
    default void listMessages(dev.threadbus.v1.ListMessagesRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListMessagesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListMessagesMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns one message, or NOT_FOUND: THREAD_NOT_FOUND, MESSAGE_NOT_FOUND.
     * </pre>
     */
    default void getMessage(dev.threadbus.v1.GetMessageRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.GetMessageResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetMessageMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a page of requests, newest first: messages that ask agents for a reply. Those of deleted
     * threads are not kept.
     * </pre>
     */
    default void listRequests(dev.threadbus.v1.ListRequestsRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListRequestsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListRequestsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Withdraws the open requests of a message, one for each agent that it asks. A notice with
     * REASON_WITHDRAWN tells the readers of the thread. Others than the agent that asked and operators
     * get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND (THREAD_NOT_FOUND, MESSAGE_NOT_FOUND),
     * INVALID_ARGUMENT if the message asks nobody, OUT_OF_RANGE / CURSOR_INVALID if the epoch is not
     * the thread's, and RESOURCE_EXHAUSTED / QUOTA_EXCEEDED when the thread has no seqs left.
     * Idempotent: requests that are not open stay as they are.
     * </pre>
     */
    default void withdrawRequest(dev.threadbus.v1.WithdrawRequestRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.WithdrawRequestResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWithdrawRequestMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the server's version and settings, and the caller's identity. Requires no token; where
     * tokens are required, `limits` is set only for calls with a token.
     * </pre>
     */
    default void getServerInfo(dev.threadbus.v1.GetServerInfoRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.GetServerInfoResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetServerInfoMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service BusService.
   * <pre>
   * Posts messages, waits for them, reads them, and renews an agent's lease.
   * </pre>
   */
  public static abstract class BusServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return BusServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service BusService.
   * <pre>
   * Posts messages, waits for them, reads them, and renews an agent's lease.
   * </pre>
   */
  public static final class BusServiceStub
      extends io.grpc.stub.AbstractAsyncStub<BusServiceStub> {
    private BusServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected BusServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new BusServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Posts one message, and returns its seq once it is committed (GetServerInfoResponse.durability
     * says how durably). The thread must exist. The sender need not have joined it, and becomes a
     * participant unless it is anonymous. Returns:
     *   * NOT_FOUND: THREAD_NOT_FOUND, MESSAGE_NOT_FOUND (reply_to, edit_of), AGENT_NOT_FOUND
     *     (mentions, handoff_to).
     *   * FAILED_PRECONDITION: THREAD_CLOSED, EXPECTED_SEQ_REQUIRED.
     *   * ABORTED / SEQ_CONFLICT: the thread's head is not expected_last_seq.
     *   * ALREADY_EXISTS: REQUEST_ID_REUSED (the request_id was used for a different post),
     *     AGENT_EXISTS (the agent named by on_behalf_of has been unregistered).
     *   * INVALID_ARGUMENT: MESSAGE_TOO_LARGE, CONTENT_BLOCKED.
     *   * OUT_OF_RANGE / CURSOR_INVALID: the seqs are of another epoch than the thread's.
     *   * PERMISSION_DENIED / ACCESS_DENIED: edit_of is another sender's message, or one of
     *     `anonymous`; or on_behalf_of is set by a caller that is not an operator.
     *   * RESOURCE_EXHAUSTED: STORAGE_FULL, RATE_LIMITED, or QUOTA_EXCEEDED when the thread has no
     *     seqs left, or 1,000 open requests to an agent that expect_reply asks.
     * Has no idempotency_level: it may be repeated only with a request_id.
     * </pre>
     */
    public void postMessage(dev.threadbus.v1.PostMessageRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.PostMessageResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getPostMessageMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Posts many messages: one response per request, one result per post, both in order. Posts of one
     * stream to one thread get their seqs in the order sent. A batch is not a transaction: a refused
     * post does not affect the others; its result has the status that PostMessage would return. A
     * server that is shutting down returns the results of the posts it has accepted, then ends the
     * stream with UNAVAILABLE / DRAINING: posts without a result were not accepted.
     * Has no idempotency_level: if the stream ends in any other way, the outcome of posts without a
     * result is unknown; each may be repeated with its request_id.
     * </pre>
     */
    public io.grpc.stub.StreamObserver<dev.threadbus.v1.PostMessagesRequest> postMessages(
        io.grpc.stub.StreamObserver<dev.threadbus.v1.PostMessagesResponse> responseObserver) {
      return io.grpc.stub.ClientCalls.asyncBidiStreamingCall(
          getChannel().newCall(getPostMessagesMethod(), getCallOptions()), responseObserver);
    }

    /**
     * <pre>
     * Replays the entries after the cursors, then streams new ones. Messages of one thread come in
     * order. Waiting consumes nothing: two waits of one agent both get every message. Nor does it
     * change read_seq: the agent reports what it has read with Heartbeat or based_on_seq, and
     * continues from there when it joins again. The stream ends with an `ending` frame and OK, or
     * with an error. Returns:
     *   * NOT_FOUND / THREAD_NOT_FOUND: a thread does not exist, or was deleted during the wait.
     *   * RESOURCE_EXHAUSTED / QUOTA_EXCEEDED: the agent has max_open_waits open, or all anonymous
     *     callers together have max_anonymous_waits open.
     *   * UNAUTHENTICATED: the token expired or was revoked during the wait.
     * A cursor that is not valid is not an error: see WaitResync.
     * Idempotent: the same cursors return the same messages, and delivered_seq never decreases.
     * </pre>
     */
    public void waitMessages(dev.threadbus.v1.WaitMessagesRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.WaitMessagesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWaitMessagesMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Renews the caller's lease, records its state and what it has read, and returns the threads in
     * which it has not read what wakes it. Records and renews nothing for anonymous callers.
     * Idempotent: state and lease are replaced, and read positions never decrease.
     * </pre>
     */
    public void heartbeat(dev.threadbus.v1.HeartbeatRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.HeartbeatResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getHeartbeatMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a page of a thread, in ascending order. Does not change the caller's read_seq. Returns
     * NOT_FOUND / THREAD_NOT_FOUND, and OUT_OF_RANGE / CURSOR_INVALID if after_seq is past the head
     * or the epoch does not match.
     * Idempotent. Not NO_SIDE_EFFECTS, as it raises the caller's delivered_seq.
     * </pre>
     */
    public void listMessages(dev.threadbus.v1.ListMessagesRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListMessagesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListMessagesMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns one message, or NOT_FOUND: THREAD_NOT_FOUND, MESSAGE_NOT_FOUND.
     * </pre>
     */
    public void getMessage(dev.threadbus.v1.GetMessageRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.GetMessageResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetMessageMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a page of requests, newest first: messages that ask agents for a reply. Those of deleted
     * threads are not kept.
     * </pre>
     */
    public void listRequests(dev.threadbus.v1.ListRequestsRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListRequestsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListRequestsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Withdraws the open requests of a message, one for each agent that it asks. A notice with
     * REASON_WITHDRAWN tells the readers of the thread. Others than the agent that asked and operators
     * get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND (THREAD_NOT_FOUND, MESSAGE_NOT_FOUND),
     * INVALID_ARGUMENT if the message asks nobody, OUT_OF_RANGE / CURSOR_INVALID if the epoch is not
     * the thread's, and RESOURCE_EXHAUSTED / QUOTA_EXCEEDED when the thread has no seqs left.
     * Idempotent: requests that are not open stay as they are.
     * </pre>
     */
    public void withdrawRequest(dev.threadbus.v1.WithdrawRequestRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.WithdrawRequestResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getWithdrawRequestMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the server's version and settings, and the caller's identity. Requires no token; where
     * tokens are required, `limits` is set only for calls with a token.
     * </pre>
     */
    public void getServerInfo(dev.threadbus.v1.GetServerInfoRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.GetServerInfoResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetServerInfoMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service BusService.
   * <pre>
   * Posts messages, waits for them, reads them, and renews an agent's lease.
   * </pre>
   */
  public static final class BusServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<BusServiceBlockingV2Stub> {
    private BusServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected BusServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new BusServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Posts one message, and returns its seq once it is committed (GetServerInfoResponse.durability
     * says how durably). The thread must exist. The sender need not have joined it, and becomes a
     * participant unless it is anonymous. Returns:
     *   * NOT_FOUND: THREAD_NOT_FOUND, MESSAGE_NOT_FOUND (reply_to, edit_of), AGENT_NOT_FOUND
     *     (mentions, handoff_to).
     *   * FAILED_PRECONDITION: THREAD_CLOSED, EXPECTED_SEQ_REQUIRED.
     *   * ABORTED / SEQ_CONFLICT: the thread's head is not expected_last_seq.
     *   * ALREADY_EXISTS: REQUEST_ID_REUSED (the request_id was used for a different post),
     *     AGENT_EXISTS (the agent named by on_behalf_of has been unregistered).
     *   * INVALID_ARGUMENT: MESSAGE_TOO_LARGE, CONTENT_BLOCKED.
     *   * OUT_OF_RANGE / CURSOR_INVALID: the seqs are of another epoch than the thread's.
     *   * PERMISSION_DENIED / ACCESS_DENIED: edit_of is another sender's message, or one of
     *     `anonymous`; or on_behalf_of is set by a caller that is not an operator.
     *   * RESOURCE_EXHAUSTED: STORAGE_FULL, RATE_LIMITED, or QUOTA_EXCEEDED when the thread has no
     *     seqs left, or 1,000 open requests to an agent that expect_reply asks.
     * Has no idempotency_level: it may be repeated only with a request_id.
     * </pre>
     */
    public dev.threadbus.v1.PostMessageResponse postMessage(dev.threadbus.v1.PostMessageRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getPostMessageMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Posts many messages: one response per request, one result per post, both in order. Posts of one
     * stream to one thread get their seqs in the order sent. A batch is not a transaction: a refused
     * post does not affect the others; its result has the status that PostMessage would return. A
     * server that is shutting down returns the results of the posts it has accepted, then ends the
     * stream with UNAVAILABLE / DRAINING: posts without a result were not accepted.
     * Has no idempotency_level: if the stream ends in any other way, the outcome of posts without a
     * result is unknown; each may be repeated with its request_id.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<dev.threadbus.v1.PostMessagesRequest, dev.threadbus.v1.PostMessagesResponse>
        postMessages() {
      return io.grpc.stub.ClientCalls.blockingBidiStreamingCall(
          getChannel(), getPostMessagesMethod(), getCallOptions());
    }

    /**
     * <pre>
     * Replays the entries after the cursors, then streams new ones. Messages of one thread come in
     * order. Waiting consumes nothing: two waits of one agent both get every message. Nor does it
     * change read_seq: the agent reports what it has read with Heartbeat or based_on_seq, and
     * continues from there when it joins again. The stream ends with an `ending` frame and OK, or
     * with an error. Returns:
     *   * NOT_FOUND / THREAD_NOT_FOUND: a thread does not exist, or was deleted during the wait.
     *   * RESOURCE_EXHAUSTED / QUOTA_EXCEEDED: the agent has max_open_waits open, or all anonymous
     *     callers together have max_anonymous_waits open.
     *   * UNAUTHENTICATED: the token expired or was revoked during the wait.
     * A cursor that is not valid is not an error: see WaitResync.
     * Idempotent: the same cursors return the same messages, and delivered_seq never decreases.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.threadbus.v1.WaitMessagesResponse>
        waitMessages(dev.threadbus.v1.WaitMessagesRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getWaitMessagesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Renews the caller's lease, records its state and what it has read, and returns the threads in
     * which it has not read what wakes it. Records and renews nothing for anonymous callers.
     * Idempotent: state and lease are replaced, and read positions never decrease.
     * </pre>
     */
    public dev.threadbus.v1.HeartbeatResponse heartbeat(dev.threadbus.v1.HeartbeatRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getHeartbeatMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of a thread, in ascending order. Does not change the caller's read_seq. Returns
     * NOT_FOUND / THREAD_NOT_FOUND, and OUT_OF_RANGE / CURSOR_INVALID if after_seq is past the head
     * or the epoch does not match.
     * Idempotent. Not NO_SIDE_EFFECTS, as it raises the caller's delivered_seq.
     * </pre>
     */
    public dev.threadbus.v1.ListMessagesResponse listMessages(dev.threadbus.v1.ListMessagesRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListMessagesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns one message, or NOT_FOUND: THREAD_NOT_FOUND, MESSAGE_NOT_FOUND.
     * </pre>
     */
    public dev.threadbus.v1.GetMessageResponse getMessage(dev.threadbus.v1.GetMessageRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetMessageMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of requests, newest first: messages that ask agents for a reply. Those of deleted
     * threads are not kept.
     * </pre>
     */
    public dev.threadbus.v1.ListRequestsResponse listRequests(dev.threadbus.v1.ListRequestsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListRequestsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Withdraws the open requests of a message, one for each agent that it asks. A notice with
     * REASON_WITHDRAWN tells the readers of the thread. Others than the agent that asked and operators
     * get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND (THREAD_NOT_FOUND, MESSAGE_NOT_FOUND),
     * INVALID_ARGUMENT if the message asks nobody, OUT_OF_RANGE / CURSOR_INVALID if the epoch is not
     * the thread's, and RESOURCE_EXHAUSTED / QUOTA_EXCEEDED when the thread has no seqs left.
     * Idempotent: requests that are not open stay as they are.
     * </pre>
     */
    public dev.threadbus.v1.WithdrawRequestResponse withdrawRequest(dev.threadbus.v1.WithdrawRequestRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getWithdrawRequestMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the server's version and settings, and the caller's identity. Requires no token; where
     * tokens are required, `limits` is set only for calls with a token.
     * </pre>
     */
    public dev.threadbus.v1.GetServerInfoResponse getServerInfo(dev.threadbus.v1.GetServerInfoRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetServerInfoMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service BusService.
   * <pre>
   * Posts messages, waits for them, reads them, and renews an agent's lease.
   * </pre>
   */
  public static final class BusServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<BusServiceBlockingStub> {
    private BusServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected BusServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new BusServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Posts one message, and returns its seq once it is committed (GetServerInfoResponse.durability
     * says how durably). The thread must exist. The sender need not have joined it, and becomes a
     * participant unless it is anonymous. Returns:
     *   * NOT_FOUND: THREAD_NOT_FOUND, MESSAGE_NOT_FOUND (reply_to, edit_of), AGENT_NOT_FOUND
     *     (mentions, handoff_to).
     *   * FAILED_PRECONDITION: THREAD_CLOSED, EXPECTED_SEQ_REQUIRED.
     *   * ABORTED / SEQ_CONFLICT: the thread's head is not expected_last_seq.
     *   * ALREADY_EXISTS: REQUEST_ID_REUSED (the request_id was used for a different post),
     *     AGENT_EXISTS (the agent named by on_behalf_of has been unregistered).
     *   * INVALID_ARGUMENT: MESSAGE_TOO_LARGE, CONTENT_BLOCKED.
     *   * OUT_OF_RANGE / CURSOR_INVALID: the seqs are of another epoch than the thread's.
     *   * PERMISSION_DENIED / ACCESS_DENIED: edit_of is another sender's message, or one of
     *     `anonymous`; or on_behalf_of is set by a caller that is not an operator.
     *   * RESOURCE_EXHAUSTED: STORAGE_FULL, RATE_LIMITED, or QUOTA_EXCEEDED when the thread has no
     *     seqs left, or 1,000 open requests to an agent that expect_reply asks.
     * Has no idempotency_level: it may be repeated only with a request_id.
     * </pre>
     */
    public dev.threadbus.v1.PostMessageResponse postMessage(dev.threadbus.v1.PostMessageRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getPostMessageMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Replays the entries after the cursors, then streams new ones. Messages of one thread come in
     * order. Waiting consumes nothing: two waits of one agent both get every message. Nor does it
     * change read_seq: the agent reports what it has read with Heartbeat or based_on_seq, and
     * continues from there when it joins again. The stream ends with an `ending` frame and OK, or
     * with an error. Returns:
     *   * NOT_FOUND / THREAD_NOT_FOUND: a thread does not exist, or was deleted during the wait.
     *   * RESOURCE_EXHAUSTED / QUOTA_EXCEEDED: the agent has max_open_waits open, or all anonymous
     *     callers together have max_anonymous_waits open.
     *   * UNAUTHENTICATED: the token expired or was revoked during the wait.
     * A cursor that is not valid is not an error: see WaitResync.
     * Idempotent: the same cursors return the same messages, and delivered_seq never decreases.
     * </pre>
     */
    public java.util.Iterator<dev.threadbus.v1.WaitMessagesResponse> waitMessages(
        dev.threadbus.v1.WaitMessagesRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWaitMessagesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Renews the caller's lease, records its state and what it has read, and returns the threads in
     * which it has not read what wakes it. Records and renews nothing for anonymous callers.
     * Idempotent: state and lease are replaced, and read positions never decrease.
     * </pre>
     */
    public dev.threadbus.v1.HeartbeatResponse heartbeat(dev.threadbus.v1.HeartbeatRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getHeartbeatMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of a thread, in ascending order. Does not change the caller's read_seq. Returns
     * NOT_FOUND / THREAD_NOT_FOUND, and OUT_OF_RANGE / CURSOR_INVALID if after_seq is past the head
     * or the epoch does not match.
     * Idempotent. Not NO_SIDE_EFFECTS, as it raises the caller's delivered_seq.
     * </pre>
     */
    public dev.threadbus.v1.ListMessagesResponse listMessages(dev.threadbus.v1.ListMessagesRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListMessagesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns one message, or NOT_FOUND: THREAD_NOT_FOUND, MESSAGE_NOT_FOUND.
     * </pre>
     */
    public dev.threadbus.v1.GetMessageResponse getMessage(dev.threadbus.v1.GetMessageRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetMessageMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of requests, newest first: messages that ask agents for a reply. Those of deleted
     * threads are not kept.
     * </pre>
     */
    public dev.threadbus.v1.ListRequestsResponse listRequests(dev.threadbus.v1.ListRequestsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListRequestsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Withdraws the open requests of a message, one for each agent that it asks. A notice with
     * REASON_WITHDRAWN tells the readers of the thread. Others than the agent that asked and operators
     * get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND (THREAD_NOT_FOUND, MESSAGE_NOT_FOUND),
     * INVALID_ARGUMENT if the message asks nobody, OUT_OF_RANGE / CURSOR_INVALID if the epoch is not
     * the thread's, and RESOURCE_EXHAUSTED / QUOTA_EXCEEDED when the thread has no seqs left.
     * Idempotent: requests that are not open stay as they are.
     * </pre>
     */
    public dev.threadbus.v1.WithdrawRequestResponse withdrawRequest(dev.threadbus.v1.WithdrawRequestRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getWithdrawRequestMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the server's version and settings, and the caller's identity. Requires no token; where
     * tokens are required, `limits` is set only for calls with a token.
     * </pre>
     */
    public dev.threadbus.v1.GetServerInfoResponse getServerInfo(dev.threadbus.v1.GetServerInfoRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetServerInfoMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service BusService.
   * <pre>
   * Posts messages, waits for them, reads them, and renews an agent's lease.
   * </pre>
   */
  public static final class BusServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<BusServiceFutureStub> {
    private BusServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected BusServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new BusServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Posts one message, and returns its seq once it is committed (GetServerInfoResponse.durability
     * says how durably). The thread must exist. The sender need not have joined it, and becomes a
     * participant unless it is anonymous. Returns:
     *   * NOT_FOUND: THREAD_NOT_FOUND, MESSAGE_NOT_FOUND (reply_to, edit_of), AGENT_NOT_FOUND
     *     (mentions, handoff_to).
     *   * FAILED_PRECONDITION: THREAD_CLOSED, EXPECTED_SEQ_REQUIRED.
     *   * ABORTED / SEQ_CONFLICT: the thread's head is not expected_last_seq.
     *   * ALREADY_EXISTS: REQUEST_ID_REUSED (the request_id was used for a different post),
     *     AGENT_EXISTS (the agent named by on_behalf_of has been unregistered).
     *   * INVALID_ARGUMENT: MESSAGE_TOO_LARGE, CONTENT_BLOCKED.
     *   * OUT_OF_RANGE / CURSOR_INVALID: the seqs are of another epoch than the thread's.
     *   * PERMISSION_DENIED / ACCESS_DENIED: edit_of is another sender's message, or one of
     *     `anonymous`; or on_behalf_of is set by a caller that is not an operator.
     *   * RESOURCE_EXHAUSTED: STORAGE_FULL, RATE_LIMITED, or QUOTA_EXCEEDED when the thread has no
     *     seqs left, or 1,000 open requests to an agent that expect_reply asks.
     * Has no idempotency_level: it may be repeated only with a request_id.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.PostMessageResponse> postMessage(
        dev.threadbus.v1.PostMessageRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getPostMessageMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Renews the caller's lease, records its state and what it has read, and returns the threads in
     * which it has not read what wakes it. Records and renews nothing for anonymous callers.
     * Idempotent: state and lease are replaced, and read positions never decrease.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.HeartbeatResponse> heartbeat(
        dev.threadbus.v1.HeartbeatRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getHeartbeatMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a page of a thread, in ascending order. Does not change the caller's read_seq. Returns
     * NOT_FOUND / THREAD_NOT_FOUND, and OUT_OF_RANGE / CURSOR_INVALID if after_seq is past the head
     * or the epoch does not match.
     * Idempotent. Not NO_SIDE_EFFECTS, as it raises the caller's delivered_seq.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.ListMessagesResponse> listMessages(
        dev.threadbus.v1.ListMessagesRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListMessagesMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns one message, or NOT_FOUND: THREAD_NOT_FOUND, MESSAGE_NOT_FOUND.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.GetMessageResponse> getMessage(
        dev.threadbus.v1.GetMessageRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetMessageMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a page of requests, newest first: messages that ask agents for a reply. Those of deleted
     * threads are not kept.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.ListRequestsResponse> listRequests(
        dev.threadbus.v1.ListRequestsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListRequestsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Withdraws the open requests of a message, one for each agent that it asks. A notice with
     * REASON_WITHDRAWN tells the readers of the thread. Others than the agent that asked and operators
     * get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND (THREAD_NOT_FOUND, MESSAGE_NOT_FOUND),
     * INVALID_ARGUMENT if the message asks nobody, OUT_OF_RANGE / CURSOR_INVALID if the epoch is not
     * the thread's, and RESOURCE_EXHAUSTED / QUOTA_EXCEEDED when the thread has no seqs left.
     * Idempotent: requests that are not open stay as they are.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.WithdrawRequestResponse> withdrawRequest(
        dev.threadbus.v1.WithdrawRequestRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getWithdrawRequestMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the server's version and settings, and the caller's identity. Requires no token; where
     * tokens are required, `limits` is set only for calls with a token.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.GetServerInfoResponse> getServerInfo(
        dev.threadbus.v1.GetServerInfoRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetServerInfoMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_POST_MESSAGE = 0;
  private static final int METHODID_WAIT_MESSAGES = 1;
  private static final int METHODID_HEARTBEAT = 2;
  private static final int METHODID_LIST_MESSAGES = 3;
  private static final int METHODID_GET_MESSAGE = 4;
  private static final int METHODID_LIST_REQUESTS = 5;
  private static final int METHODID_WITHDRAW_REQUEST = 6;
  private static final int METHODID_GET_SERVER_INFO = 7;
  private static final int METHODID_POST_MESSAGES = 8;

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
        case METHODID_POST_MESSAGE:
          serviceImpl.postMessage((dev.threadbus.v1.PostMessageRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.PostMessageResponse>) responseObserver);
          break;
        case METHODID_WAIT_MESSAGES:
          serviceImpl.waitMessages((dev.threadbus.v1.WaitMessagesRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.WaitMessagesResponse>) responseObserver);
          break;
        case METHODID_HEARTBEAT:
          serviceImpl.heartbeat((dev.threadbus.v1.HeartbeatRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.HeartbeatResponse>) responseObserver);
          break;
        case METHODID_LIST_MESSAGES:
          serviceImpl.listMessages((dev.threadbus.v1.ListMessagesRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.ListMessagesResponse>) responseObserver);
          break;
        case METHODID_GET_MESSAGE:
          serviceImpl.getMessage((dev.threadbus.v1.GetMessageRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.GetMessageResponse>) responseObserver);
          break;
        case METHODID_LIST_REQUESTS:
          serviceImpl.listRequests((dev.threadbus.v1.ListRequestsRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.ListRequestsResponse>) responseObserver);
          break;
        case METHODID_WITHDRAW_REQUEST:
          serviceImpl.withdrawRequest((dev.threadbus.v1.WithdrawRequestRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.WithdrawRequestResponse>) responseObserver);
          break;
        case METHODID_GET_SERVER_INFO:
          serviceImpl.getServerInfo((dev.threadbus.v1.GetServerInfoRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.GetServerInfoResponse>) responseObserver);
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
        case METHODID_POST_MESSAGES:
          return (io.grpc.stub.StreamObserver<Req>) serviceImpl.postMessages(
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.PostMessagesResponse>) responseObserver);
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getPostMessageMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.PostMessageRequest,
              dev.threadbus.v1.PostMessageResponse>(
                service, METHODID_POST_MESSAGE)))
        .addMethod(
          getPostMessagesMethod(),
          io.grpc.stub.ServerCalls.asyncBidiStreamingCall(
            new MethodHandlers<
              dev.threadbus.v1.PostMessagesRequest,
              dev.threadbus.v1.PostMessagesResponse>(
                service, METHODID_POST_MESSAGES)))
        .addMethod(
          getWaitMessagesMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.threadbus.v1.WaitMessagesRequest,
              dev.threadbus.v1.WaitMessagesResponse>(
                service, METHODID_WAIT_MESSAGES)))
        .addMethod(
          getHeartbeatMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.HeartbeatRequest,
              dev.threadbus.v1.HeartbeatResponse>(
                service, METHODID_HEARTBEAT)))
        .addMethod(
          getListMessagesMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.ListMessagesRequest,
              dev.threadbus.v1.ListMessagesResponse>(
                service, METHODID_LIST_MESSAGES)))
        .addMethod(
          getGetMessageMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.GetMessageRequest,
              dev.threadbus.v1.GetMessageResponse>(
                service, METHODID_GET_MESSAGE)))
        .addMethod(
          getListRequestsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.ListRequestsRequest,
              dev.threadbus.v1.ListRequestsResponse>(
                service, METHODID_LIST_REQUESTS)))
        .addMethod(
          getWithdrawRequestMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.WithdrawRequestRequest,
              dev.threadbus.v1.WithdrawRequestResponse>(
                service, METHODID_WITHDRAW_REQUEST)))
        .addMethod(
          getGetServerInfoMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.GetServerInfoRequest,
              dev.threadbus.v1.GetServerInfoResponse>(
                service, METHODID_GET_SERVER_INFO)))
        .build();
  }

  private static abstract class BusServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    BusServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.threadbus.v1.BusServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("BusService");
    }
  }

  private static final class BusServiceFileDescriptorSupplier
      extends BusServiceBaseDescriptorSupplier {
    BusServiceFileDescriptorSupplier() {}
  }

  private static final class BusServiceMethodDescriptorSupplier
      extends BusServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    BusServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (BusServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new BusServiceFileDescriptorSupplier())
              .addMethod(getPostMessageMethod())
              .addMethod(getPostMessagesMethod())
              .addMethod(getWaitMessagesMethod())
              .addMethod(getHeartbeatMethod())
              .addMethod(getListMessagesMethod())
              .addMethod(getGetMessageMethod())
              .addMethod(getListRequestsMethod())
              .addMethod(getWithdrawRequestMethod())
              .addMethod(getGetServerInfoMethod())
              .build();
        }
      }
    }
    return result;
  }
}
