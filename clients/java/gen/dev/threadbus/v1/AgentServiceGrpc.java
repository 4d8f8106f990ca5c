package dev.threadbus.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Registers agents, and manages their settings, sessions and tokens.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class AgentServiceGrpc {

  private AgentServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "threadbus.v1.AgentService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.RegisterAgentRequest,
      dev.threadbus.v1.RegisterAgentResponse> getRegisterAgentMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RegisterAgent",
      requestType = dev.threadbus.v1.RegisterAgentRequest.class,
      responseType = dev.threadbus.v1.RegisterAgentResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.RegisterAgentRequest,
      dev.threadbus.v1.RegisterAgentResponse> getRegisterAgentMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.RegisterAgentRequest, dev.threadbus.v1.RegisterAgentResponse> getRegisterAgentMethod;
    if ((getRegisterAgentMethod = AgentServiceGrpc.getRegisterAgentMethod) == null) {
      synchronized (AgentServiceGrpc.class) {
        if ((getRegisterAgentMethod = AgentServiceGrpc.getRegisterAgentMethod) == null) {
          AgentServiceGrpc.getRegisterAgentMethod = getRegisterAgentMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.RegisterAgentRequest, dev.threadbus.v1.RegisterAgentResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RegisterAgent"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.RegisterAgentRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.RegisterAgentResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AgentServiceMethodDescriptorSupplier("RegisterAgent"))
              .build();
        }
      }
    }
    return getRegisterAgentMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.GetAgentRequest,
      dev.threadbus.v1.GetAgentResponse> getGetAgentMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetAgent",
      requestType = dev.threadbus.v1.GetAgentRequest.class,
      responseType = dev.threadbus.v1.GetAgentResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.GetAgentRequest,
      dev.threadbus.v1.GetAgentResponse> getGetAgentMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.GetAgentRequest, dev.threadbus.v1.GetAgentResponse> getGetAgentMethod;
    if ((getGetAgentMethod = AgentServiceGrpc.getGetAgentMethod) == null) {
      synchronized (AgentServiceGrpc.class) {
        if ((getGetAgentMethod = AgentServiceGrpc.getGetAgentMethod) == null) {
          AgentServiceGrpc.getGetAgentMethod = getGetAgentMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.GetAgentRequest, dev.threadbus.v1.GetAgentResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetAgent"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.GetAgentRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.GetAgentResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AgentServiceMethodDescriptorSupplier("GetAgent"))
              .build();
        }
      }
    }
    return getGetAgentMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.ListAgentsRequest,
      dev.threadbus.v1.ListAgentsResponse> getListAgentsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListAgents",
      requestType = dev.threadbus.v1.ListAgentsRequest.class,
      responseType = dev.threadbus.v1.ListAgentsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.ListAgentsRequest,
      dev.threadbus.v1.ListAgentsResponse> getListAgentsMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.ListAgentsRequest, dev.threadbus.v1.ListAgentsResponse> getListAgentsMethod;
    if ((getListAgentsMethod = AgentServiceGrpc.getListAgentsMethod) == null) {
      synchronized (AgentServiceGrpc.class) {
        if ((getListAgentsMethod = AgentServiceGrpc.getListAgentsMethod) == null) {
          AgentServiceGrpc.getListAgentsMethod = getListAgentsMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.ListAgentsRequest, dev.threadbus.v1.ListAgentsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListAgents"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListAgentsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListAgentsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AgentServiceMethodDescriptorSupplier("ListAgents"))
              .build();
        }
      }
    }
    return getListAgentsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.UpdateAgentRequest,
      dev.threadbus.v1.UpdateAgentResponse> getUpdateAgentMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "UpdateAgent",
      requestType = dev.threadbus.v1.UpdateAgentRequest.class,
      responseType = dev.threadbus.v1.UpdateAgentResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.UpdateAgentRequest,
      dev.threadbus.v1.UpdateAgentResponse> getUpdateAgentMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.UpdateAgentRequest, dev.threadbus.v1.UpdateAgentResponse> getUpdateAgentMethod;
    if ((getUpdateAgentMethod = AgentServiceGrpc.getUpdateAgentMethod) == null) {
      synchronized (AgentServiceGrpc.class) {
        if ((getUpdateAgentMethod = AgentServiceGrpc.getUpdateAgentMethod) == null) {
          AgentServiceGrpc.getUpdateAgentMethod = getUpdateAgentMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.UpdateAgentRequest, dev.threadbus.v1.UpdateAgentResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "UpdateAgent"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.UpdateAgentRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.UpdateAgentResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AgentServiceMethodDescriptorSupplier("UpdateAgent"))
              .build();
        }
      }
    }
    return getUpdateAgentMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.EndSessionRequest,
      dev.threadbus.v1.EndSessionResponse> getEndSessionMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "EndSession",
      requestType = dev.threadbus.v1.EndSessionRequest.class,
      responseType = dev.threadbus.v1.EndSessionResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.EndSessionRequest,
      dev.threadbus.v1.EndSessionResponse> getEndSessionMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.EndSessionRequest, dev.threadbus.v1.EndSessionResponse> getEndSessionMethod;
    if ((getEndSessionMethod = AgentServiceGrpc.getEndSessionMethod) == null) {
      synchronized (AgentServiceGrpc.class) {
        if ((getEndSessionMethod = AgentServiceGrpc.getEndSessionMethod) == null) {
          AgentServiceGrpc.getEndSessionMethod = getEndSessionMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.EndSessionRequest, dev.threadbus.v1.EndSessionResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "EndSession"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.EndSessionRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.EndSessionResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AgentServiceMethodDescriptorSupplier("EndSession"))
              .build();
        }
      }
    }
    return getEndSessionMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.UnregisterAgentRequest,
      dev.threadbus.v1.UnregisterAgentResponse> getUnregisterAgentMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "UnregisterAgent",
      requestType = dev.threadbus.v1.UnregisterAgentRequest.class,
      responseType = dev.threadbus.v1.UnregisterAgentResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.UnregisterAgentRequest,
      dev.threadbus.v1.UnregisterAgentResponse> getUnregisterAgentMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.UnregisterAgentRequest, dev.threadbus.v1.UnregisterAgentResponse> getUnregisterAgentMethod;
    if ((getUnregisterAgentMethod = AgentServiceGrpc.getUnregisterAgentMethod) == null) {
      synchronized (AgentServiceGrpc.class) {
        if ((getUnregisterAgentMethod = AgentServiceGrpc.getUnregisterAgentMethod) == null) {
          AgentServiceGrpc.getUnregisterAgentMethod = getUnregisterAgentMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.UnregisterAgentRequest, dev.threadbus.v1.UnregisterAgentResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "UnregisterAgent"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.UnregisterAgentRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.UnregisterAgentResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AgentServiceMethodDescriptorSupplier("UnregisterAgent"))
              .build();
        }
      }
    }
    return getUnregisterAgentMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.RotateTokenRequest,
      dev.threadbus.v1.RotateTokenResponse> getRotateTokenMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RotateToken",
      requestType = dev.threadbus.v1.RotateTokenRequest.class,
      responseType = dev.threadbus.v1.RotateTokenResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.RotateTokenRequest,
      dev.threadbus.v1.RotateTokenResponse> getRotateTokenMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.RotateTokenRequest, dev.threadbus.v1.RotateTokenResponse> getRotateTokenMethod;
    if ((getRotateTokenMethod = AgentServiceGrpc.getRotateTokenMethod) == null) {
      synchronized (AgentServiceGrpc.class) {
        if ((getRotateTokenMethod = AgentServiceGrpc.getRotateTokenMethod) == null) {
          AgentServiceGrpc.getRotateTokenMethod = getRotateTokenMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.RotateTokenRequest, dev.threadbus.v1.RotateTokenResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RotateToken"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.RotateTokenRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.RotateTokenResponse.getDefaultInstance()))
              .setSchemaDescriptor(new AgentServiceMethodDescriptorSupplier("RotateToken"))
              .build();
        }
      }
    }
    return getRotateTokenMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static AgentServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AgentServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AgentServiceStub>() {
        @java.lang.Override
        public AgentServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AgentServiceStub(channel, callOptions);
        }
      };
    return AgentServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static AgentServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AgentServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AgentServiceBlockingV2Stub>() {
        @java.lang.Override
        public AgentServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AgentServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return AgentServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static AgentServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AgentServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AgentServiceBlockingStub>() {
        @java.lang.Override
        public AgentServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AgentServiceBlockingStub(channel, callOptions);
        }
      };
    return AgentServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static AgentServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<AgentServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<AgentServiceFutureStub>() {
        @java.lang.Override
        public AgentServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new AgentServiceFutureStub(channel, callOptions);
        }
      };
    return AgentServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Registers agents, and manages their settings, sessions and tokens.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Registers an agent and returns it with its token. In open mode anyone may register agents;
     * where tokens are required, only operators may, and the agent itself with its own token. Only
     * operators register people (kind HUMAN). Others get PERMISSION_DENIED / ACCESS_DENIED. Returns
     * ALREADY_EXISTS / AGENT_EXISTS if the name is registered with another token or none, or was
     * unregistered. Only an operator can register a name again that was unregistered, or give a token
     * here to an agent that has no valid one, as if a post with on_behalf_of registered it. Returns
     * RESOURCE_EXHAUSTED / QUOTA_EXCEEDED if the name is new and the caller has registered as many
     * agents as ServerLimits.agents_per_caller allows. A sign of life of the agent, unless an
     * operator or another agent calls.
     * Idempotent: a second call with the same name and token returns the registered agent. Without
     * `token` in the request, a lost response loses the token, and the next call returns
     * AGENT_EXISTS: send a token.
     * </pre>
     */
    default void registerAgent(dev.threadbus.v1.RegisterAgentRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.RegisterAgentResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRegisterAgentMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns an agent, or NOT_FOUND / AGENT_NOT_FOUND if it is not registered.
     * </pre>
     */
    default void getAgent(dev.threadbus.v1.GetAgentRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.GetAgentResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetAgentMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a page of agents, sorted by name.
     * </pre>
     */
    default void listAgents(dev.threadbus.v1.ListAgentsRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListAgentsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListAgentsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Changes the caller's display name, description or labels, and returns the agent. Operators may
     * change any agent; other callers that name another agent get PERMISSION_DENIED / ACCESS_DENIED.
     * Returns NOT_FOUND / AGENT_NOT_FOUND if the agent is not registered.
     * Idempotent: a second call sets the same values, which only the agent itself and operators
     * change.
     * </pre>
     */
    default void updateAgent(dev.threadbus.v1.UpdateAgentRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.UpdateAgentResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getUpdateAgentMethod(), responseObserver);
    }

    /**
     * <pre>
     * Ends the caller's session: the agent is OFFLINE at once, and its open waits end with
     * SESSION_ENDED, except those that only observe. Any later call of the agent starts a new session.
     * Does nothing for anonymous callers. With a token that is limited to some threads, only the waits
     * that were opened with it end, and the agent is OFFLINE if it has no others. Operators may end the
     * session of any agent; one that makes calls at another server of the store meanwhile goes on
     * there. Other callers that name another agent get PERMISSION_DENIED / ACCESS_DENIED. Returns
     * NOT_FOUND / AGENT_NOT_FOUND if the agent that is named is not registered.
     * Idempotent: the agent is OFFLINE either way.
     * </pre>
     */
    default void endSession(dev.threadbus.v1.EndSessionRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.EndSessionResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getEndSessionMethod(), responseObserver);
    }

    /**
     * <pre>
     * Unregisters the caller; operators may unregister any agent. The agent's tokens are revoked,
     * which ends its open waits (UNAUTHENTICATED / TOKEN_INVALID), and it leaves its threads. Its
     * messages keep its name, which only an operator can register again. Callers that are not
     * operators and name another agent get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND /
     * AGENT_NOT_FOUND if the agent is not registered.
     * Not idempotent: a second call returns AGENT_NOT_FOUND, or TOKEN_INVALID to the agent itself.
     * </pre>
     */
    default void unregisterAgent(dev.threadbus.v1.UnregisterAgentRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.UnregisterAgentResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getUnregisterAgentMethod(), responseObserver);
    }

    /**
     * <pre>
     * Replaces the token that the call is made with, and returns the new one, which permits the same
     * and expires at the same time. Streams that were opened with the old token end when it expires
     * (UNAUTHENTICATED / TOKEN_EXPIRED). Returns UNAUTHENTICATED / TOKEN_INVALID to anonymous callers.
     * With `agent`, for operators: ends all tokens of an agent, such as one that has lost its token,
     * and returns a new one that permits post and read everywhere. Other callers that name another
     * agent get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND / AGENT_NOT_FOUND if the agent is
     * not registered. An operator's own token is not replaced here: see CreateToken and RevokeToken.
     * Not idempotent: each call creates a token. Without `grace`, the token that a second call would
     * need expires with the first. With `grace`, call again before it is over: the last token
     * returned is valid.
     * </pre>
     */
    default void rotateToken(dev.threadbus.v1.RotateTokenRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.RotateTokenResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRotateTokenMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service AgentService.
   * <pre>
   * Registers agents, and manages their settings, sessions and tokens.
   * </pre>
   */
  public static abstract class AgentServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return AgentServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service AgentService.
   * <pre>
   * Registers agents, and manages their settings, sessions and tokens.
   * </pre>
   */
  public static final class AgentServiceStub
      extends io.grpc.stub.AbstractAsyncStub<AgentServiceStub> {
    private AgentServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AgentServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AgentServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Registers an agent and returns it with its token. In open mode anyone may register agents;
     * where tokens are required, only operators may, and the agent itself with its own token. Only
     * operators register people (kind HUMAN). Others get PERMISSION_DENIED / ACCESS_DENIED. Returns
     * ALREADY_EXISTS / AGENT_EXISTS if the name is registered with another token or none, or was
     * unregistered. Only an operator can register a name again that was unregistered, or give a token
     * here to an agent that has no valid one, as if a post with on_behalf_of registered it. Returns
     * RESOURCE_EXHAUSTED / QUOTA_EXCEEDED if the name is new and the caller has registered as many
     * agents as ServerLimits.agents_per_caller allows. A sign of life of the agent, unless an
     * operator or another agent calls.
     * Idempotent: a second call with the same name and token returns the registered agent. Without
     * `token` in the request, a lost response loses the token, and the next call returns
     * AGENT_EXISTS: send a token.
     * </pre>
     */
    public void registerAgent(dev.threadbus.v1.RegisterAgentRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.RegisterAgentResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getRegisterAgentMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns an agent, or NOT_FOUND / AGENT_NOT_FOUND if it is not registered.
     * </pre>
     */
    public void getAgent(dev.threadbus.v1.GetAgentRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.GetAgentResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetAgentMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a page of agents, sorted by name.
     * </pre>
     */
    public void listAgents(dev.threadbus.v1.ListAgentsRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListAgentsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListAgentsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Changes the caller's display name, description or labels, and returns the agent. Operators may
     * change any agent; other callers that name another agent get PERMISSION_DENIED / ACCESS_DENIED.
     * Returns NOT_FOUND / AGENT_NOT_FOUND if the agent is not registered.
     * Idempotent: a second call sets the same values, which only the agent itself and operators
     * change.
     * </pre>
     */
    public void updateAgent(dev.threadbus.v1.UpdateAgentRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.UpdateAgentResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getUpdateAgentMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Ends the caller's session: the agent is OFFLINE at once, and its open waits end with
     * SESSION_ENDED, except those that only observe. Any later call of the agent starts a new session.
     * Does nothing for anonymous callers. With a token that is limited to some threads, only the waits
     * that were opened with it end, and the agent is OFFLINE if it has no others. Operators may end the
     * session of any agent; one that makes calls at another server of the store meanwhile goes on
     * there. Other callers that name another agent get PERMISSION_DENIED / ACCESS_DENIED. Returns
     * NOT_FOUND / AGENT_NOT_FOUND if the agent that is named is not registered.
     * Idempotent: the agent is OFFLINE either way.
     * </pre>
     */
    public void endSession(dev.threadbus.v1.EndSessionRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.EndSessionResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getEndSessionMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Unregisters the caller; operators may unregister any agent. The agent's tokens are revoked,
     * which ends its open waits (UNAUTHENTICATED / TOKEN_INVALID), and it leaves its threads. Its
     * messages keep its name, which only an operator can register again. Callers that are not
     * operators and name another agent get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND /
     * AGENT_NOT_FOUND if the agent is not registered.
     * Not idempotent: a second call returns AGENT_NOT_FOUND, or TOKEN_INVALID to the agent itself.
     * </pre>
     */
    public void unregisterAgent(dev.threadbus.v1.UnregisterAgentRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.UnregisterAgentResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getUnregisterAgentMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Replaces the token that the call is made with, and returns the new one, which permits the same
     * and expires at the same time. Streams that were opened with the old token end when it expires
     * (UNAUTHENTICATED / TOKEN_EXPIRED). Returns UNAUTHENTICATED / TOKEN_INVALID to anonymous callers.
     * With `agent`, for operators: ends all tokens of an agent, such as one that has lost its token,
     * and returns a new one that permits post and read everywhere. Other callers that name another
     * agent get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND / AGENT_NOT_FOUND if the agent is
     * not registered. An operator's own token is not replaced here: see CreateToken and RevokeToken.
     * Not idempotent: each call creates a token. Without `grace`, the token that a second call would
     * need expires with the first. With `grace`, call again before it is over: the last token
     * returned is valid.
     * </pre>
     */
    public void rotateToken(dev.threadbus.v1.RotateTokenRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.RotateTokenResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getRotateTokenMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service AgentService.
   * <pre>
   * Registers agents, and manages their settings, sessions and tokens.
   * </pre>
   */
  public static final class AgentServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<AgentServiceBlockingV2Stub> {
    private AgentServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AgentServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AgentServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Registers an agent and returns it with its token. In open mode anyone may register agents;
     * where tokens are required, only operators may, and the agent itself with its own token. Only
     * operators register people (kind HUMAN). Others get PERMISSION_DENIED / ACCESS_DENIED. Returns
     * ALREADY_EXISTS / AGENT_EXISTS if the name is registered with another token or none, or was
     * unregistered. Only an operator can register a name again that was unregistered, or give a token
     * here to an agent that has no valid one, as if a post with on_behalf_of registered it. Returns
     * RESOURCE_EXHAUSTED / QUOTA_EXCEEDED if the name is new and the caller has registered as many
     * agents as ServerLimits.agents_per_caller allows. A sign of life of the agent, unless an
     * operator or another agent calls.
     * Idempotent: a second call with the same name and token returns the registered agent. Without
     * `token` in the request, a lost response loses the token, and the next call returns
     * AGENT_EXISTS: send a token.
     * </pre>
     */
    public dev.threadbus.v1.RegisterAgentResponse registerAgent(dev.threadbus.v1.RegisterAgentRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getRegisterAgentMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns an agent, or NOT_FOUND / AGENT_NOT_FOUND if it is not registered.
     * </pre>
     */
    public dev.threadbus.v1.GetAgentResponse getAgent(dev.threadbus.v1.GetAgentRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetAgentMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of agents, sorted by name.
     * </pre>
     */
    public dev.threadbus.v1.ListAgentsResponse listAgents(dev.threadbus.v1.ListAgentsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListAgentsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Changes the caller's display name, description or labels, and returns the agent. Operators may
     * change any agent; other callers that name another agent get PERMISSION_DENIED / ACCESS_DENIED.
     * Returns NOT_FOUND / AGENT_NOT_FOUND if the agent is not registered.
     * Idempotent: a second call sets the same values, which only the agent itself and operators
     * change.
     * </pre>
     */
    public dev.threadbus.v1.UpdateAgentResponse updateAgent(dev.threadbus.v1.UpdateAgentRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getUpdateAgentMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Ends the caller's session: the agent is OFFLINE at once, and its open waits end with
     * SESSION_ENDED, except those that only observe. Any later call of the agent starts a new session.
     * Does nothing for anonymous callers. With a token that is limited to some threads, only the waits
     * that were opened with it end, and the agent is OFFLINE if it has no others. Operators may end the
     * session of any agent; one that makes calls at another server of the store meanwhile goes on
     * there. Other callers that name another agent get PERMISSION_DENIED / ACCESS_DENIED. Returns
     * NOT_FOUND / AGENT_NOT_FOUND if the agent that is named is not registered.
     * Idempotent: the agent is OFFLINE either way.
     * </pre>
     */
    public dev.threadbus.v1.EndSessionResponse endSession(dev.threadbus.v1.EndSessionRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getEndSessionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Unregisters the caller; operators may unregister any agent. The agent's tokens are revoked,
     * which ends its open waits (UNAUTHENTICATED / TOKEN_INVALID), and it leaves its threads. Its
     * messages keep its name, which only an operator can register again. Callers that are not
     * operators and name another agent get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND /
     * AGENT_NOT_FOUND if the agent is not registered.
     * Not idempotent: a second call returns AGENT_NOT_FOUND, or TOKEN_INVALID to the agent itself.
     * </pre>
     */
    public dev.threadbus.v1.UnregisterAgentResponse unregisterAgent(dev.threadbus.v1.UnregisterAgentRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getUnregisterAgentMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Replaces the token that the call is made with, and returns the new one, which permits the same
     * and expires at the same time. Streams that were opened with the old token end when it expires
     * (UNAUTHENTICATED / TOKEN_EXPIRED). Returns UNAUTHENTICATED / TOKEN_INVALID to anonymous callers.
     * With `agent`, for operators: ends all tokens of an agent, such as one that has lost its token,
     * and returns a new one that permits post and read everywhere. Other callers that name another
     * agent get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND / AGENT_NOT_FOUND if the agent is
     * not registered. An operator's own token is not replaced here: see CreateToken and RevokeToken.
     * Not idempotent: each call creates a token. Without `grace`, the token that a second call would
     * need expires with the first. With `grace`, call again before it is over: the last token
     * returned is valid.
     * </pre>
     */
    public dev.threadbus.v1.RotateTokenResponse rotateToken(dev.threadbus.v1.RotateTokenRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getRotateTokenMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service AgentService.
   * <pre>
   * Registers agents, and manages their settings, sessions and tokens.
   * </pre>
   */
  public static final class AgentServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<AgentServiceBlockingStub> {
    private AgentServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AgentServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AgentServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Registers an agent and returns it with its token. In open mode anyone may register agents;
     * where tokens are required, only operators may, and the agent itself with its own token. Only
     * operators register people (kind HUMAN). Others get PERMISSION_DENIED / ACCESS_DENIED. Returns
     * ALREADY_EXISTS / AGENT_EXISTS if the name is registered with another token or none, or was
     * unregistered. Only an operator can register a name again that was unregistered, or give a token
     * here to an agent that has no valid one, as if a post with on_behalf_of registered it. Returns
     * RESOURCE_EXHAUSTED / QUOTA_EXCEEDED if the name is new and the caller has registered as many
     * agents as ServerLimits.agents_per_caller allows. A sign of life of the agent, unless an
     * operator or another agent calls.
     * Idempotent: a second call with the same name and token returns the registered agent. Without
     * `token` in the request, a lost response loses the token, and the next call returns
     * AGENT_EXISTS: send a token.
     * </pre>
     */
    public dev.threadbus.v1.RegisterAgentResponse registerAgent(dev.threadbus.v1.RegisterAgentRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getRegisterAgentMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns an agent, or NOT_FOUND / AGENT_NOT_FOUND if it is not registered.
     * </pre>
     */
    public dev.threadbus.v1.GetAgentResponse getAgent(dev.threadbus.v1.GetAgentRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetAgentMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of agents, sorted by name.
     * </pre>
     */
    public dev.threadbus.v1.ListAgentsResponse listAgents(dev.threadbus.v1.ListAgentsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListAgentsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Changes the caller's display name, description or labels, and returns the agent. Operators may
     * change any agent; other callers that name another agent get PERMISSION_DENIED / ACCESS_DENIED.
     * Returns NOT_FOUND / AGENT_NOT_FOUND if the agent is not registered.
     * Idempotent: a second call sets the same values, which only the agent itself and operators
     * change.
     * </pre>
     */
    public dev.threadbus.v1.UpdateAgentResponse updateAgent(dev.threadbus.v1.UpdateAgentRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getUpdateAgentMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Ends the caller's session: the agent is OFFLINE at once, and its open waits end with
     * SESSION_ENDED, except those that only observe. Any later call of the agent starts a new session.
     * Does nothing for anonymous callers. With a token that is limited to some threads, only the waits
     * that were opened with it end, and the agent is OFFLINE if it has no others. Operators may end the
     * session of any agent; one that makes calls at another server of the store meanwhile goes on
     * there. Other callers that name another agent get PERMISSION_DENIED / ACCESS_DENIED. Returns
     * NOT_FOUND / AGENT_NOT_FOUND if the agent that is named is not registered.
     * Idempotent: the agent is OFFLINE either way.
     * </pre>
     */
    public dev.threadbus.v1.EndSessionResponse endSession(dev.threadbus.v1.EndSessionRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getEndSessionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Unregisters the caller; operators may unregister any agent. The agent's tokens are revoked,
     * which ends its open waits (UNAUTHENTICATED / TOKEN_INVALID), and it leaves its threads. Its
     * messages keep its name, which only an operator can register again. Callers that are not
     * operators and name another agent get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND /
     * AGENT_NOT_FOUND if the agent is not registered.
     * Not idempotent: a second call returns AGENT_NOT_FOUND, or TOKEN_INVALID to the agent itself.
     * </pre>
     */
    public dev.threadbus.v1.UnregisterAgentResponse unregisterAgent(dev.threadbus.v1.UnregisterAgentRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getUnregisterAgentMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Replaces the token that the call is made with, and returns the new one, which permits the same
     * and expires at the same time. Streams that were opened with the old token end when it expires
     * (UNAUTHENTICATED / TOKEN_EXPIRED). Returns UNAUTHENTICATED / TOKEN_INVALID to anonymous callers.
     * With `agent`, for operators: ends all tokens of an agent, such as one that has lost its token,
     * and returns a new one that permits post and read everywhere. Other callers that name another
     * agent get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND / AGENT_NOT_FOUND if the agent is
     * not registered. An operator's own token is not replaced here: see CreateToken and RevokeToken.
     * Not idempotent: each call creates a token. Without `grace`, the token that a second call would
     * need expires with the first. With `grace`, call again before it is over: the last token
     * returned is valid.
     * </pre>
     */
    public dev.threadbus.v1.RotateTokenResponse rotateToken(dev.threadbus.v1.RotateTokenRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getRotateTokenMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service AgentService.
   * <pre>
   * Registers agents, and manages their settings, sessions and tokens.
   * </pre>
   */
  public static final class AgentServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<AgentServiceFutureStub> {
    private AgentServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected AgentServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new AgentServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Registers an agent and returns it with its token. In open mode anyone may register agents;
     * where tokens are required, only operators may, and the agent itself with its own token. Only
     * operators register people (kind HUMAN). Others get PERMISSION_DENIED / ACCESS_DENIED. Returns
     * ALREADY_EXISTS / AGENT_EXISTS if the name is registered with another token or none, or was
     * unregistered. Only an operator can register a name again that was unregistered, or give a token
     * here to an agent that has no valid one, as if a post with on_behalf_of registered it. Returns
     * RESOURCE_EXHAUSTED / QUOTA_EXCEEDED if the name is new and the caller has registered as many
     * agents as ServerLimits.agents_per_caller allows. A sign of life of the agent, unless an
     * operator or another agent calls.
     * Idempotent: a second call with the same name and token returns the registered agent. Without
     * `token` in the request, a lost response loses the token, and the next call returns
     * AGENT_EXISTS: send a token.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.RegisterAgentResponse> registerAgent(
        dev.threadbus.v1.RegisterAgentRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getRegisterAgentMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns an agent, or NOT_FOUND / AGENT_NOT_FOUND if it is not registered.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.GetAgentResponse> getAgent(
        dev.threadbus.v1.GetAgentRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetAgentMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a page of agents, sorted by name.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.ListAgentsResponse> listAgents(
        dev.threadbus.v1.ListAgentsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListAgentsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Changes the caller's display name, description or labels, and returns the agent. Operators may
     * change any agent; other callers that name another agent get PERMISSION_DENIED / ACCESS_DENIED.
     * Returns NOT_FOUND / AGENT_NOT_FOUND if the agent is not registered.
     * Idempotent: a second call sets the same values, which only the agent itself and operators
     * change.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.UpdateAgentResponse> updateAgent(
        dev.threadbus.v1.UpdateAgentRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getUpdateAgentMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Ends the caller's session: the agent is OFFLINE at once, and its open waits end with
     * SESSION_ENDED, except those that only observe. Any later call of the agent starts a new session.
     * Does nothing for anonymous callers. With a token that is limited to some threads, only the waits
     * that were opened with it end, and the agent is OFFLINE if it has no others. Operators may end the
     * session of any agent; one that makes calls at another server of the store meanwhile goes on
     * there. Other callers that name another agent get PERMISSION_DENIED / ACCESS_DENIED. Returns
     * NOT_FOUND / AGENT_NOT_FOUND if the agent that is named is not registered.
     * Idempotent: the agent is OFFLINE either way.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.EndSessionResponse> endSession(
        dev.threadbus.v1.EndSessionRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getEndSessionMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Unregisters the caller; operators may unregister any agent. The agent's tokens are revoked,
     * which ends its open waits (UNAUTHENTICATED / TOKEN_INVALID), and it leaves its threads. Its
     * messages keep its name, which only an operator can register again. Callers that are not
     * operators and name another agent get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND /
     * AGENT_NOT_FOUND if the agent is not registered.
     * Not idempotent: a second call returns AGENT_NOT_FOUND, or TOKEN_INVALID to the agent itself.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.UnregisterAgentResponse> unregisterAgent(
        dev.threadbus.v1.UnregisterAgentRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getUnregisterAgentMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Replaces the token that the call is made with, and returns the new one, which permits the same
     * and expires at the same time. Streams that were opened with the old token end when it expires
     * (UNAUTHENTICATED / TOKEN_EXPIRED). Returns UNAUTHENTICATED / TOKEN_INVALID to anonymous callers.
     * With `agent`, for operators: ends all tokens of an agent, such as one that has lost its token,
     * and returns a new one that permits post and read everywhere. Other callers that name another
     * agent get PERMISSION_DENIED / ACCESS_DENIED. Returns NOT_FOUND / AGENT_NOT_FOUND if the agent is
     * not registered. An operator's own token is not replaced here: see CreateToken and RevokeToken.
     * Not idempotent: each call creates a token. Without `grace`, the token that a second call would
     * need expires with the first. With `grace`, call again before it is over: the last token
     * returned is valid.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.RotateTokenResponse> rotateToken(
        dev.threadbus.v1.RotateTokenRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getRotateTokenMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_REGISTER_AGENT = 0;
  private static final int METHODID_GET_AGENT = 1;
  private static final int METHODID_LIST_AGENTS = 2;
  private static final int METHODID_UPDATE_AGENT = 3;
  private static final int METHODID_END_SESSION = 4;
  private static final int METHODID_UNREGISTER_AGENT = 5;
  private static final int METHODID_ROTATE_TOKEN = 6;

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
        case METHODID_REGISTER_AGENT:
          serviceImpl.registerAgent((dev.threadbus.v1.RegisterAgentRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.RegisterAgentResponse>) responseObserver);
          break;
        case METHODID_GET_AGENT:
          serviceImpl.getAgent((dev.threadbus.v1.GetAgentRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.GetAgentResponse>) responseObserver);
          break;
        case METHODID_LIST_AGENTS:
          serviceImpl.listAgents((dev.threadbus.v1.ListAgentsRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.ListAgentsResponse>) responseObserver);
          break;
        case METHODID_UPDATE_AGENT:
          serviceImpl.updateAgent((dev.threadbus.v1.UpdateAgentRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.UpdateAgentResponse>) responseObserver);
          break;
        case METHODID_END_SESSION:
          serviceImpl.endSession((dev.threadbus.v1.EndSessionRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.EndSessionResponse>) responseObserver);
          break;
        case METHODID_UNREGISTER_AGENT:
          serviceImpl.unregisterAgent((dev.threadbus.v1.UnregisterAgentRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.UnregisterAgentResponse>) responseObserver);
          break;
        case METHODID_ROTATE_TOKEN:
          serviceImpl.rotateToken((dev.threadbus.v1.RotateTokenRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.RotateTokenResponse>) responseObserver);
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
          getRegisterAgentMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.RegisterAgentRequest,
              dev.threadbus.v1.RegisterAgentResponse>(
                service, METHODID_REGISTER_AGENT)))
        .addMethod(
          getGetAgentMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.GetAgentRequest,
              dev.threadbus.v1.GetAgentResponse>(
                service, METHODID_GET_AGENT)))
        .addMethod(
          getListAgentsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.ListAgentsRequest,
              dev.threadbus.v1.ListAgentsResponse>(
                service, METHODID_LIST_AGENTS)))
        .addMethod(
          getUpdateAgentMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.UpdateAgentRequest,
              dev.threadbus.v1.UpdateAgentResponse>(
                service, METHODID_UPDATE_AGENT)))
        .addMethod(
          getEndSessionMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.EndSessionRequest,
              dev.threadbus.v1.EndSessionResponse>(
                service, METHODID_END_SESSION)))
        .addMethod(
          getUnregisterAgentMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.UnregisterAgentRequest,
              dev.threadbus.v1.UnregisterAgentResponse>(
                service, METHODID_UNREGISTER_AGENT)))
        .addMethod(
          getRotateTokenMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.RotateTokenRequest,
              dev.threadbus.v1.RotateTokenResponse>(
                service, METHODID_ROTATE_TOKEN)))
        .build();
  }

  private static abstract class AgentServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    AgentServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.threadbus.v1.AgentServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("AgentService");
    }
  }

  private static final class AgentServiceFileDescriptorSupplier
      extends AgentServiceBaseDescriptorSupplier {
    AgentServiceFileDescriptorSupplier() {}
  }

  private static final class AgentServiceMethodDescriptorSupplier
      extends AgentServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    AgentServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (AgentServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new AgentServiceFileDescriptorSupplier())
              .addMethod(getRegisterAgentMethod())
              .addMethod(getGetAgentMethod())
              .addMethod(getListAgentsMethod())
              .addMethod(getUpdateAgentMethod())
              .addMethod(getEndSessionMethod())
              .addMethod(getUnregisterAgentMethod())
              .addMethod(getRotateTokenMethod())
              .build();
        }
      }
    }
    return result;
  }
}
