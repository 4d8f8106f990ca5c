package dev.threadbus.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Creates, lists, changes and deletes threads, and manages their participants.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class ThreadServiceGrpc {

  private ThreadServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "threadbus.v1.ThreadService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.CreateThreadRequest,
      dev.threadbus.v1.CreateThreadResponse> getCreateThreadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CreateThread",
      requestType = dev.threadbus.v1.CreateThreadRequest.class,
      responseType = dev.threadbus.v1.CreateThreadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.CreateThreadRequest,
      dev.threadbus.v1.CreateThreadResponse> getCreateThreadMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.CreateThreadRequest, dev.threadbus.v1.CreateThreadResponse> getCreateThreadMethod;
    if ((getCreateThreadMethod = ThreadServiceGrpc.getCreateThreadMethod) == null) {
      synchronized (ThreadServiceGrpc.class) {
        if ((getCreateThreadMethod = ThreadServiceGrpc.getCreateThreadMethod) == null) {
          ThreadServiceGrpc.getCreateThreadMethod = getCreateThreadMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.CreateThreadRequest, dev.threadbus.v1.CreateThreadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CreateThread"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.CreateThreadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.CreateThreadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ThreadServiceMethodDescriptorSupplier("CreateThread"))
              .build();
        }
      }
    }
    return getCreateThreadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.GetThreadRequest,
      dev.threadbus.v1.GetThreadResponse> getGetThreadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetThread",
      requestType = dev.threadbus.v1.GetThreadRequest.class,
      responseType = dev.threadbus.v1.GetThreadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.GetThreadRequest,
      dev.threadbus.v1.GetThreadResponse> getGetThreadMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.GetThreadRequest, dev.threadbus.v1.GetThreadResponse> getGetThreadMethod;
    if ((getGetThreadMethod = ThreadServiceGrpc.getGetThreadMethod) == null) {
      synchronized (ThreadServiceGrpc.class) {
        if ((getGetThreadMethod = ThreadServiceGrpc.getGetThreadMethod) == null) {
          ThreadServiceGrpc.getGetThreadMethod = getGetThreadMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.GetThreadRequest, dev.threadbus.v1.GetThreadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetThread"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.GetThreadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.GetThreadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ThreadServiceMethodDescriptorSupplier("GetThread"))
              .build();
        }
      }
    }
    return getGetThreadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.ListThreadsRequest,
      dev.threadbus.v1.ListThreadsResponse> getListThreadsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListThreads",
      requestType = dev.threadbus.v1.ListThreadsRequest.class,
      responseType = dev.threadbus.v1.ListThreadsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.ListThreadsRequest,
      dev.threadbus.v1.ListThreadsResponse> getListThreadsMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.ListThreadsRequest, dev.threadbus.v1.ListThreadsResponse> getListThreadsMethod;
    if ((getListThreadsMethod = ThreadServiceGrpc.getListThreadsMethod) == null) {
      synchronized (ThreadServiceGrpc.class) {
        if ((getListThreadsMethod = ThreadServiceGrpc.getListThreadsMethod) == null) {
          ThreadServiceGrpc.getListThreadsMethod = getListThreadsMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.ListThreadsRequest, dev.threadbus.v1.ListThreadsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListThreads"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListThreadsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListThreadsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ThreadServiceMethodDescriptorSupplier("ListThreads"))
              .build();
        }
      }
    }
    return getListThreadsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.JoinThreadRequest,
      dev.threadbus.v1.JoinThreadResponse> getJoinThreadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "JoinThread",
      requestType = dev.threadbus.v1.JoinThreadRequest.class,
      responseType = dev.threadbus.v1.JoinThreadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.JoinThreadRequest,
      dev.threadbus.v1.JoinThreadResponse> getJoinThreadMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.JoinThreadRequest, dev.threadbus.v1.JoinThreadResponse> getJoinThreadMethod;
    if ((getJoinThreadMethod = ThreadServiceGrpc.getJoinThreadMethod) == null) {
      synchronized (ThreadServiceGrpc.class) {
        if ((getJoinThreadMethod = ThreadServiceGrpc.getJoinThreadMethod) == null) {
          ThreadServiceGrpc.getJoinThreadMethod = getJoinThreadMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.JoinThreadRequest, dev.threadbus.v1.JoinThreadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "JoinThread"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.JoinThreadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.JoinThreadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ThreadServiceMethodDescriptorSupplier("JoinThread"))
              .build();
        }
      }
    }
    return getJoinThreadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.LeaveThreadRequest,
      dev.threadbus.v1.LeaveThreadResponse> getLeaveThreadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "LeaveThread",
      requestType = dev.threadbus.v1.LeaveThreadRequest.class,
      responseType = dev.threadbus.v1.LeaveThreadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.LeaveThreadRequest,
      dev.threadbus.v1.LeaveThreadResponse> getLeaveThreadMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.LeaveThreadRequest, dev.threadbus.v1.LeaveThreadResponse> getLeaveThreadMethod;
    if ((getLeaveThreadMethod = ThreadServiceGrpc.getLeaveThreadMethod) == null) {
      synchronized (ThreadServiceGrpc.class) {
        if ((getLeaveThreadMethod = ThreadServiceGrpc.getLeaveThreadMethod) == null) {
          ThreadServiceGrpc.getLeaveThreadMethod = getLeaveThreadMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.LeaveThreadRequest, dev.threadbus.v1.LeaveThreadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "LeaveThread"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.LeaveThreadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.LeaveThreadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ThreadServiceMethodDescriptorSupplier("LeaveThread"))
              .build();
        }
      }
    }
    return getLeaveThreadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.ListParticipantsRequest,
      dev.threadbus.v1.ListParticipantsResponse> getListParticipantsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListParticipants",
      requestType = dev.threadbus.v1.ListParticipantsRequest.class,
      responseType = dev.threadbus.v1.ListParticipantsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.ListParticipantsRequest,
      dev.threadbus.v1.ListParticipantsResponse> getListParticipantsMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.ListParticipantsRequest, dev.threadbus.v1.ListParticipantsResponse> getListParticipantsMethod;
    if ((getListParticipantsMethod = ThreadServiceGrpc.getListParticipantsMethod) == null) {
      synchronized (ThreadServiceGrpc.class) {
        if ((getListParticipantsMethod = ThreadServiceGrpc.getListParticipantsMethod) == null) {
          ThreadServiceGrpc.getListParticipantsMethod = getListParticipantsMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.ListParticipantsRequest, dev.threadbus.v1.ListParticipantsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListParticipants"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListParticipantsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.ListParticipantsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ThreadServiceMethodDescriptorSupplier("ListParticipants"))
              .build();
        }
      }
    }
    return getListParticipantsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.UpdateThreadRequest,
      dev.threadbus.v1.UpdateThreadResponse> getUpdateThreadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "UpdateThread",
      requestType = dev.threadbus.v1.UpdateThreadRequest.class,
      responseType = dev.threadbus.v1.UpdateThreadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.UpdateThreadRequest,
      dev.threadbus.v1.UpdateThreadResponse> getUpdateThreadMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.UpdateThreadRequest, dev.threadbus.v1.UpdateThreadResponse> getUpdateThreadMethod;
    if ((getUpdateThreadMethod = ThreadServiceGrpc.getUpdateThreadMethod) == null) {
      synchronized (ThreadServiceGrpc.class) {
        if ((getUpdateThreadMethod = ThreadServiceGrpc.getUpdateThreadMethod) == null) {
          ThreadServiceGrpc.getUpdateThreadMethod = getUpdateThreadMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.UpdateThreadRequest, dev.threadbus.v1.UpdateThreadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "UpdateThread"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.UpdateThreadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.UpdateThreadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ThreadServiceMethodDescriptorSupplier("UpdateThread"))
              .build();
        }
      }
    }
    return getUpdateThreadMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.SetThreadStateRequest,
      dev.threadbus.v1.SetThreadStateResponse> getSetThreadStateMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "SetThreadState",
      requestType = dev.threadbus.v1.SetThreadStateRequest.class,
      responseType = dev.threadbus.v1.SetThreadStateResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.SetThreadStateRequest,
      dev.threadbus.v1.SetThreadStateResponse> getSetThreadStateMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.SetThreadStateRequest, dev.threadbus.v1.SetThreadStateResponse> getSetThreadStateMethod;
    if ((getSetThreadStateMethod = ThreadServiceGrpc.getSetThreadStateMethod) == null) {
      synchronized (ThreadServiceGrpc.class) {
        if ((getSetThreadStateMethod = ThreadServiceGrpc.getSetThreadStateMethod) == null) {
          ThreadServiceGrpc.getSetThreadStateMethod = getSetThreadStateMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.SetThreadStateRequest, dev.threadbus.v1.SetThreadStateResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "SetThreadState"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.SetThreadStateRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.SetThreadStateResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ThreadServiceMethodDescriptorSupplier("SetThreadState"))
              .build();
        }
      }
    }
    return getSetThreadStateMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.threadbus.v1.DeleteThreadRequest,
      dev.threadbus.v1.DeleteThreadResponse> getDeleteThreadMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DeleteThread",
      requestType = dev.threadbus.v1.DeleteThreadRequest.class,
      responseType = dev.threadbus.v1.DeleteThreadResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.threadbus.v1.DeleteThreadRequest,
      dev.threadbus.v1.DeleteThreadResponse> getDeleteThreadMethod() {
    io.grpc.MethodDescriptor<dev.threadbus.v1.DeleteThreadRequest, dev.threadbus.v1.DeleteThreadResponse> getDeleteThreadMethod;
    if ((getDeleteThreadMethod = ThreadServiceGrpc.getDeleteThreadMethod) == null) {
      synchronized (ThreadServiceGrpc.class) {
        if ((getDeleteThreadMethod = ThreadServiceGrpc.getDeleteThreadMethod) == null) {
          ThreadServiceGrpc.getDeleteThreadMethod = getDeleteThreadMethod =
              io.grpc.MethodDescriptor.<dev.threadbus.v1.DeleteThreadRequest, dev.threadbus.v1.DeleteThreadResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DeleteThread"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.DeleteThreadRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.threadbus.v1.DeleteThreadResponse.getDefaultInstance()))
              .setSchemaDescriptor(new ThreadServiceMethodDescriptorSupplier("DeleteThread"))
              .build();
        }
      }
    }
    return getDeleteThreadMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static ThreadServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ThreadServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ThreadServiceStub>() {
        @java.lang.Override
        public ThreadServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ThreadServiceStub(channel, callOptions);
        }
      };
    return ThreadServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static ThreadServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ThreadServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ThreadServiceBlockingV2Stub>() {
        @java.lang.Override
        public ThreadServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ThreadServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return ThreadServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static ThreadServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ThreadServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ThreadServiceBlockingStub>() {
        @java.lang.Override
        public ThreadServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ThreadServiceBlockingStub(channel, callOptions);
        }
      };
    return ThreadServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static ThreadServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<ThreadServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<ThreadServiceFutureStub>() {
        @java.lang.Override
        public ThreadServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new ThreadServiceFutureStub(channel, callOptions);
        }
      };
    return ThreadServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Creates, lists, changes and deletes threads, and manages their participants.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Creates a thread and returns it, or ALREADY_EXISTS / THREAD_EXISTS if the name is taken,
     * INVALID_ARGUMENT / CONTENT_BLOCKED, or RESOURCE_EXHAUSTED / QUOTA_EXCEEDED if the caller has
     * created as many as ServerLimits.threads_per_caller allows.
     * Not idempotent: after a lost response, a second call returns THREAD_EXISTS, which does not say
     * who created the thread. JoinThread with `create` is idempotent.
     * </pre>
     */
    default void createThread(dev.threadbus.v1.CreateThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.CreateThreadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCreateThreadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a thread, or NOT_FOUND / THREAD_NOT_FOUND if it does not exist.
     * </pre>
     */
    default void getThread(dev.threadbus.v1.GetThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.GetThreadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetThreadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a page of threads, most recently active first. A thread to which an entry is appended
     * while a client pages through the list may be missing from later pages. No thread is listed
     * twice.
     * </pre>
     */
    default void listThreads(dev.threadbus.v1.ListThreadsRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListThreadsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListThreadsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Makes the caller a participant of a thread. Returns the cursor to wait from, and from one
     * snapshot the thread, its newest messages up to that cursor, and its participants. Anonymous
     * callers do not become participants. Returns NOT_FOUND / THREAD_NOT_FOUND if the thread does not
     * exist and `create` is not set, INVALID_ARGUMENT / CONTENT_BLOCKED, and RESOURCE_EXHAUSTED /
     * QUOTA_EXCEEDED if the thread would be created and the caller has created as many as
     * ServerLimits.threads_per_caller allows.
     * Idempotent: a participant keeps its position. Only the first response has `created` and
     * `similar`.
     * </pre>
     */
    default void joinThread(dev.threadbus.v1.JoinThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.JoinThreadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getJoinThreadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Removes the caller from a thread's participants, and drops its delivered_seq and read_seq. Its
     * messages remain. Does nothing if it is not a participant. Returns NOT_FOUND / THREAD_NOT_FOUND
     * if the thread does not exist.
     * Idempotent: leaving again changes nothing.
     * </pre>
     */
    default void leaveThread(dev.threadbus.v1.LeaveThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.LeaveThreadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getLeaveThreadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a page of a thread's participants, with what each has received and read, or NOT_FOUND /
     * THREAD_NOT_FOUND if the thread does not exist.
     * </pre>
     */
    default void listParticipants(dev.threadbus.v1.ListParticipantsRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListParticipantsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListParticipantsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Changes a thread's topic, stage, labels, sync_mode or retention, and returns the thread. Appends a THREAD
     * entry if a value changes. Only the thread's creator, people and operators may change a thread,
     * and its participants may change only its stage; anyone may change one that `anonymous` created, and any
     * where GetServerInfoResponse.thread_rights is `everyone`. Others get PERMISSION_DENIED /
     * ACCESS_DENIED. Returns NOT_FOUND / THREAD_NOT_FOUND if the thread does not exist, OUT_OF_RANGE /
     * CURSOR_INVALID if `epoch` is given and is not the thread's, RESOURCE_EXHAUSTED /
     * QUOTA_EXCEEDED if the thread has no seqs left, and INVALID_ARGUMENT / CONTENT_BLOCKED.
     * Not idempotent: a second call would undo what another agent changed in between, perhaps in
     * response to the first, and append a second entry. After an unknown outcome, read the thread.
     * </pre>
     */
    default void updateThread(dev.threadbus.v1.UpdateThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.UpdateThreadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getUpdateThreadMethod(), responseObserver);
    }

    /**
     * <pre>
     * Opens, closes or archives a thread, and returns it. Appends a THREAD entry if the state
     * changes, so that waits receive the change in order. Only the thread's creator, people and
     * operators may do this, with the exceptions and errors of UpdateThread.
     * Not idempotent, for the same reason as UpdateThread.
     * </pre>
     */
    default void setThreadState(dev.threadbus.v1.SetThreadStateRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.SetThreadStateResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getSetThreadStateMethod(), responseObserver);
    }

    /**
     * <pre>
     * Deletes a thread and everything in it. Waits on the thread end with NOT_FOUND /
     * THREAD_NOT_FOUND. A thread created later with the same name has a different epoch. Only the
     * thread's creator, people and operators may do this, with the exceptions of UpdateThread. Returns
     * NOT_FOUND / THREAD_NOT_FOUND if the thread does not exist, and OUT_OF_RANGE / CURSOR_INVALID if
     * `epoch` is given and is not the thread's.
     * Not idempotent: without `epoch`, a second call could delete a thread created in between. With
     * it, exactly one of several calls succeeds.
     * </pre>
     */
    default void deleteThread(dev.threadbus.v1.DeleteThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.DeleteThreadResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDeleteThreadMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service ThreadService.
   * <pre>
   * Creates, lists, changes and deletes threads, and manages their participants.
   * </pre>
   */
  public static abstract class ThreadServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return ThreadServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service ThreadService.
   * <pre>
   * Creates, lists, changes and deletes threads, and manages their participants.
   * </pre>
   */
  public static final class ThreadServiceStub
      extends io.grpc.stub.AbstractAsyncStub<ThreadServiceStub> {
    private ThreadServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ThreadServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ThreadServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a thread and returns it, or ALREADY_EXISTS / THREAD_EXISTS if the name is taken,
     * INVALID_ARGUMENT / CONTENT_BLOCKED, or RESOURCE_EXHAUSTED / QUOTA_EXCEEDED if the caller has
     * created as many as ServerLimits.threads_per_caller allows.
     * Not idempotent: after a lost response, a second call returns THREAD_EXISTS, which does not say
     * who created the thread. JoinThread with `create` is idempotent.
     * </pre>
     */
    public void createThread(dev.threadbus.v1.CreateThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.CreateThreadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCreateThreadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a thread, or NOT_FOUND / THREAD_NOT_FOUND if it does not exist.
     * </pre>
     */
    public void getThread(dev.threadbus.v1.GetThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.GetThreadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetThreadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a page of threads, most recently active first. A thread to which an entry is appended
     * while a client pages through the list may be missing from later pages. No thread is listed
     * twice.
     * </pre>
     */
    public void listThreads(dev.threadbus.v1.ListThreadsRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListThreadsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListThreadsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Makes the caller a participant of a thread. Returns the cursor to wait from, and from one
     * snapshot the thread, its newest messages up to that cursor, and its participants. Anonymous
     * callers do not become participants. Returns NOT_FOUND / THREAD_NOT_FOUND if the thread does not
     * exist and `create` is not set, INVALID_ARGUMENT / CONTENT_BLOCKED, and RESOURCE_EXHAUSTED /
     * QUOTA_EXCEEDED if the thread would be created and the caller has created as many as
     * ServerLimits.threads_per_caller allows.
     * Idempotent: a participant keeps its position. Only the first response has `created` and
     * `similar`.
     * </pre>
     */
    public void joinThread(dev.threadbus.v1.JoinThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.JoinThreadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getJoinThreadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Removes the caller from a thread's participants, and drops its delivered_seq and read_seq. Its
     * messages remain. Does nothing if it is not a participant. Returns NOT_FOUND / THREAD_NOT_FOUND
     * if the thread does not exist.
     * Idempotent: leaving again changes nothing.
     * </pre>
     */
    public void leaveThread(dev.threadbus.v1.LeaveThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.LeaveThreadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getLeaveThreadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a page of a thread's participants, with what each has received and read, or NOT_FOUND /
     * THREAD_NOT_FOUND if the thread does not exist.
     * </pre>
     */
    public void listParticipants(dev.threadbus.v1.ListParticipantsRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.ListParticipantsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListParticipantsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Changes a thread's topic, stage, labels, sync_mode or retention, and returns the thread. Appends a THREAD
     * entry if a value changes. Only the thread's creator, people and operators may change a thread,
     * and its participants may change only its stage; anyone may change one that `anonymous` created, and any
     * where GetServerInfoResponse.thread_rights is `everyone`. Others get PERMISSION_DENIED /
     * ACCESS_DENIED. Returns NOT_FOUND / THREAD_NOT_FOUND if the thread does not exist, OUT_OF_RANGE /
     * CURSOR_INVALID if `epoch` is given and is not the thread's, RESOURCE_EXHAUSTED /
     * QUOTA_EXCEEDED if the thread has no seqs left, and INVALID_ARGUMENT / CONTENT_BLOCKED.
     * Not idempotent: a second call would undo what another agent changed in between, perhaps in
     * response to the first, and append a second entry. After an unknown outcome, read the thread.
     * </pre>
     */
    public void updateThread(dev.threadbus.v1.UpdateThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.UpdateThreadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getUpdateThreadMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Opens, closes or archives a thread, and returns it. Appends a THREAD entry if the state
     * changes, so that waits receive the change in order. Only the thread's creator, people and
     * operators may do this, with the exceptions and errors of UpdateThread.
     * Not idempotent, for the same reason as UpdateThread.
     * </pre>
     */
    public void setThreadState(dev.threadbus.v1.SetThreadStateRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.SetThreadStateResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getSetThreadStateMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Deletes a thread and everything in it. Waits on the thread end with NOT_FOUND /
     * THREAD_NOT_FOUND. A thread created later with the same name has a different epoch. Only the
     * thread's creator, people and operators may do this, with the exceptions of UpdateThread. Returns
     * NOT_FOUND / THREAD_NOT_FOUND if the thread does not exist, and OUT_OF_RANGE / CURSOR_INVALID if
     * `epoch` is given and is not the thread's.
     * Not idempotent: without `epoch`, a second call could delete a thread created in between. With
     * it, exactly one of several calls succeeds.
     * </pre>
     */
    public void deleteThread(dev.threadbus.v1.DeleteThreadRequest request,
        io.grpc.stub.StreamObserver<dev.threadbus.v1.DeleteThreadResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDeleteThreadMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service ThreadService.
   * <pre>
   * Creates, lists, changes and deletes threads, and manages their participants.
   * </pre>
   */
  public static final class ThreadServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<ThreadServiceBlockingV2Stub> {
    private ThreadServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ThreadServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ThreadServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a thread and returns it, or ALREADY_EXISTS / THREAD_EXISTS if the name is taken,
     * INVALID_ARGUMENT / CONTENT_BLOCKED, or RESOURCE_EXHAUSTED / QUOTA_EXCEEDED if the caller has
     * created as many as ServerLimits.threads_per_caller allows.
     * Not idempotent: after a lost response, a second call returns THREAD_EXISTS, which does not say
     * who created the thread. JoinThread with `create` is idempotent.
     * </pre>
     */
    public dev.threadbus.v1.CreateThreadResponse createThread(dev.threadbus.v1.CreateThreadRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCreateThreadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a thread, or NOT_FOUND / THREAD_NOT_FOUND if it does not exist.
     * </pre>
     */
    public dev.threadbus.v1.GetThreadResponse getThread(dev.threadbus.v1.GetThreadRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetThreadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of threads, most recently active first. A thread to which an entry is appended
     * while a client pages through the list may be missing from later pages. No thread is listed
     * twice.
     * </pre>
     */
    public dev.threadbus.v1.ListThreadsResponse listThreads(dev.threadbus.v1.ListThreadsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListThreadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Makes the caller a participant of a thread. Returns the cursor to wait from, and from one
     * snapshot the thread, its newest messages up to that cursor, and its participants. Anonymous
     * callers do not become participants. Returns NOT_FOUND / THREAD_NOT_FOUND if the thread does not
     * exist and `create` is not set, INVALID_ARGUMENT / CONTENT_BLOCKED, and RESOURCE_EXHAUSTED /
     * QUOTA_EXCEEDED if the thread would be created and the caller has created as many as
     * ServerLimits.threads_per_caller allows.
     * Idempotent: a participant keeps its position. Only the first response has `created` and
     * `similar`.
     * </pre>
     */
    public dev.threadbus.v1.JoinThreadResponse joinThread(dev.threadbus.v1.JoinThreadRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getJoinThreadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Removes the caller from a thread's participants, and drops its delivered_seq and read_seq. Its
     * messages remain. Does nothing if it is not a participant. Returns NOT_FOUND / THREAD_NOT_FOUND
     * if the thread does not exist.
     * Idempotent: leaving again changes nothing.
     * </pre>
     */
    public dev.threadbus.v1.LeaveThreadResponse leaveThread(dev.threadbus.v1.LeaveThreadRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getLeaveThreadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of a thread's participants, with what each has received and read, or NOT_FOUND /
     * THREAD_NOT_FOUND if the thread does not exist.
     * </pre>
     */
    public dev.threadbus.v1.ListParticipantsResponse listParticipants(dev.threadbus.v1.ListParticipantsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListParticipantsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Changes a thread's topic, stage, labels, sync_mode or retention, and returns the thread. Appends a THREAD
     * entry if a value changes. Only the thread's creator, people and operators may change a thread,
     * and its participants may change only its stage; anyone may change one that `anonymous` created, and any
     * where GetServerInfoResponse.thread_rights is `everyone`. Others get PERMISSION_DENIED /
     * ACCESS_DENIED. Returns NOT_FOUND / THREAD_NOT_FOUND if the thread does not exist, OUT_OF_RANGE /
     * CURSOR_INVALID if `epoch` is given and is not the thread's, RESOURCE_EXHAUSTED /
     * QUOTA_EXCEEDED if the thread has no seqs left, and INVALID_ARGUMENT / CONTENT_BLOCKED.
     * Not idempotent: a second call would undo what another agent changed in between, perhaps in
     * response to the first, and append a second entry. After an unknown outcome, read the thread.
     * </pre>
     */
    public dev.threadbus.v1.UpdateThreadResponse updateThread(dev.threadbus.v1.UpdateThreadRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getUpdateThreadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Opens, closes or archives a thread, and returns it. Appends a THREAD entry if the state
     * changes, so that waits receive the change in order. Only the thread's creator, people and
     * operators may do this, with the exceptions and errors of UpdateThread.
     * Not idempotent, for the same reason as UpdateThread.
     * </pre>
     */
    public dev.threadbus.v1.SetThreadStateResponse setThreadState(dev.threadbus.v1.SetThreadStateRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getSetThreadStateMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Deletes a thread and everything in it. Waits on the thread end with NOT_FOUND /
     * THREAD_NOT_FOUND. A thread created later with the same name has a different epoch. Only the
     * thread's creator, people and operators may do this, with the exceptions of UpdateThread. Returns
     * NOT_FOUND / THREAD_NOT_FOUND if the thread does not exist, and OUT_OF_RANGE / CURSOR_INVALID if
     * `epoch` is given and is not the thread's.
     * Not idempotent: without `epoch`, a second call could delete a thread created in between. With
     * it, exactly one of several calls succeeds.
     * </pre>
     */
    public dev.threadbus.v1.DeleteThreadResponse deleteThread(dev.threadbus.v1.DeleteThreadRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getDeleteThreadMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service ThreadService.
   * <pre>
   * Creates, lists, changes and deletes threads, and manages their participants.
   * </pre>
   */
  public static final class ThreadServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<ThreadServiceBlockingStub> {
    private ThreadServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ThreadServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ThreadServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a thread and returns it, or ALREADY_EXISTS / THREAD_EXISTS if the name is taken,
     * INVALID_ARGUMENT / CONTENT_BLOCKED, or RESOURCE_EXHAUSTED / QUOTA_EXCEEDED if the caller has
     * created as many as ServerLimits.threads_per_caller allows.
     * Not idempotent: after a lost response, a second call returns THREAD_EXISTS, which does not say
     * who created the thread. JoinThread with `create` is idempotent.
     * </pre>
     */
    public dev.threadbus.v1.CreateThreadResponse createThread(dev.threadbus.v1.CreateThreadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCreateThreadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a thread, or NOT_FOUND / THREAD_NOT_FOUND if it does not exist.
     * </pre>
     */
    public dev.threadbus.v1.GetThreadResponse getThread(dev.threadbus.v1.GetThreadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetThreadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of threads, most recently active first. A thread to which an entry is appended
     * while a client pages through the list may be missing from later pages. No thread is listed
     * twice.
     * </pre>
     */
    public dev.threadbus.v1.ListThreadsResponse listThreads(dev.threadbus.v1.ListThreadsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListThreadsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Makes the caller a participant of a thread. Returns the cursor to wait from, and from one
     * snapshot the thread, its newest messages up to that cursor, and its participants. Anonymous
     * callers do not become participants. Returns NOT_FOUND / THREAD_NOT_FOUND if the thread does not
     * exist and `create` is not set, INVALID_ARGUMENT / CONTENT_BLOCKED, and RESOURCE_EXHAUSTED /
     * QUOTA_EXCEEDED if the thread would be created and the caller has created as many as
     * ServerLimits.threads_per_caller allows.
     * Idempotent: a participant keeps its position. Only the first response has `created` and
     * `similar`.
     * </pre>
     */
    public dev.threadbus.v1.JoinThreadResponse joinThread(dev.threadbus.v1.JoinThreadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getJoinThreadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Removes the caller from a thread's participants, and drops its delivered_seq and read_seq. Its
     * messages remain. Does nothing if it is not a participant. Returns NOT_FOUND / THREAD_NOT_FOUND
     * if the thread does not exist.
     * Idempotent: leaving again changes nothing.
     * </pre>
     */
    public dev.threadbus.v1.LeaveThreadResponse leaveThread(dev.threadbus.v1.LeaveThreadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getLeaveThreadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a page of a thread's participants, with what each has received and read, or NOT_FOUND /
     * THREAD_NOT_FOUND if the thread does not exist.
     * </pre>
     */
    public dev.threadbus.v1.ListParticipantsResponse listParticipants(dev.threadbus.v1.ListParticipantsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListParticipantsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Changes a thread's topic, stage, labels, sync_mode or retention, and returns the thread. Appends a THREAD
     * entry if a value changes. Only the thread's creator, people and operators may change a thread,
     * and its participants may change only its stage; anyone may change one that `anonymous` created, and any
     * where GetServerInfoResponse.thread_rights is `everyone`. Others get PERMISSION_DENIED /
     * ACCESS_DENIED. Returns NOT_FOUND / THREAD_NOT_FOUND if the thread does not exist, OUT_OF_RANGE /
     * CURSOR_INVALID if `epoch` is given and is not the thread's, RESOURCE_EXHAUSTED /
     * QUOTA_EXCEEDED if the thread has no seqs left, and INVALID_ARGUMENT / CONTENT_BLOCKED.
     * Not idempotent: a second call would undo what another agent changed in between, perhaps in
     * response to the first, and append a second entry. After an unknown outcome, read the thread.
     * </pre>
     */
    public dev.threadbus.v1.UpdateThreadResponse updateThread(dev.threadbus.v1.UpdateThreadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getUpdateThreadMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Opens, closes or archives a thread, and returns it. Appends a THREAD entry if the state
     * changes, so that waits receive the change in order. Only the thread's creator, people and
     * operators may do this, with the exceptions and errors of UpdateThread.
     * Not idempotent, for the same reason as UpdateThread.
     * </pre>
     */
    public dev.threadbus.v1.SetThreadStateResponse setThreadState(dev.threadbus.v1.SetThreadStateRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getSetThreadStateMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Deletes a thread and everything in it. Waits on the thread end with NOT_FOUND /
     * THREAD_NOT_FOUND. A thread created later with the same name has a different epoch. Only the
     * thread's creator, people and operators may do this, with the exceptions of UpdateThread. Returns
     * NOT_FOUND / THREAD_NOT_FOUND if the thread does not exist, and OUT_OF_RANGE / CURSOR_INVALID if
     * `epoch` is given and is not the thread's.
     * Not idempotent: without `epoch`, a second call could delete a thread created in between. With
     * it, exactly one of several calls succeeds.
     * </pre>
     */
    public dev.threadbus.v1.DeleteThreadResponse deleteThread(dev.threadbus.v1.DeleteThreadRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDeleteThreadMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service ThreadService.
   * <pre>
   * Creates, lists, changes and deletes threads, and manages their participants.
   * </pre>
   */
  public static final class ThreadServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<ThreadServiceFutureStub> {
    private ThreadServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected ThreadServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new ThreadServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Creates a thread and returns it, or ALREADY_EXISTS / THREAD_EXISTS if the name is taken,
     * INVALID_ARGUMENT / CONTENT_BLOCKED, or RESOURCE_EXHAUSTED / QUOTA_EXCEEDED if the caller has
     * created as many as ServerLimits.threads_per_caller allows.
     * Not idempotent: after a lost response, a second call returns THREAD_EXISTS, which does not say
     * who created the thread. JoinThread with `create` is idempotent.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.CreateThreadResponse> createThread(
        dev.threadbus.v1.CreateThreadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCreateThreadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a thread, or NOT_FOUND / THREAD_NOT_FOUND if it does not exist.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.GetThreadResponse> getThread(
        dev.threadbus.v1.GetThreadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetThreadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a page of threads, most recently active first. A thread to which an entry is appended
     * while a client pages through the list may be missing from later pages. No thread is listed
     * twice.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.ListThreadsResponse> listThreads(
        dev.threadbus.v1.ListThreadsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListThreadsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Makes the caller a participant of a thread. Returns the cursor to wait from, and from one
     * snapshot the thread, its newest messages up to that cursor, and its participants. Anonymous
     * callers do not become participants. Returns NOT_FOUND / THREAD_NOT_FOUND if the thread does not
     * exist and `create` is not set, INVALID_ARGUMENT / CONTENT_BLOCKED, and RESOURCE_EXHAUSTED /
     * QUOTA_EXCEEDED if the thread would be created and the caller has created as many as
     * ServerLimits.threads_per_caller allows.
     * Idempotent: a participant keeps its position. Only the first response has `created` and
     * `similar`.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.JoinThreadResponse> joinThread(
        dev.threadbus.v1.JoinThreadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getJoinThreadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Removes the caller from a thread's participants, and drops its delivered_seq and read_seq. Its
     * messages remain. Does nothing if it is not a participant. Returns NOT_FOUND / THREAD_NOT_FOUND
     * if the thread does not exist.
     * Idempotent: leaving again changes nothing.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.LeaveThreadResponse> leaveThread(
        dev.threadbus.v1.LeaveThreadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getLeaveThreadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a page of a thread's participants, with what each has received and read, or NOT_FOUND /
     * THREAD_NOT_FOUND if the thread does not exist.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.ListParticipantsResponse> listParticipants(
        dev.threadbus.v1.ListParticipantsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListParticipantsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Changes a thread's topic, stage, labels, sync_mode or retention, and returns the thread. Appends a THREAD
     * entry if a value changes. Only the thread's creator, people and operators may change a thread,
     * and its participants may change only its stage; anyone may change one that `anonymous` created, and any
     * where GetServerInfoResponse.thread_rights is `everyone`. Others get PERMISSION_DENIED /
     * ACCESS_DENIED. Returns NOT_FOUND / THREAD_NOT_FOUND if the thread does not exist, OUT_OF_RANGE /
     * CURSOR_INVALID if `epoch` is given and is not the thread's, RESOURCE_EXHAUSTED /
     * QUOTA_EXCEEDED if the thread has no seqs left, and INVALID_ARGUMENT / CONTENT_BLOCKED.
     * Not idempotent: a second call would undo what another agent changed in between, perhaps in
     * response to the first, and append a second entry. After an unknown outcome, read the thread.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.UpdateThreadResponse> updateThread(
        dev.threadbus.v1.UpdateThreadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getUpdateThreadMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Opens, closes or archives a thread, and returns it. Appends a THREAD entry if the state
     * changes, so that waits receive the change in order. Only the thread's creator, people and
     * operators may do this, with the exceptions and errors of UpdateThread.
     * Not idempotent, for the same reason as UpdateThread.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.SetThreadStateResponse> setThreadState(
        dev.threadbus.v1.SetThreadStateRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getSetThreadStateMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Deletes a thread and everything in it. Waits on the thread end with NOT_FOUND /
     * THREAD_NOT_FOUND. A thread created later with the same name has a different epoch. Only the
     * thread's creator, people and operators may do this, with the exceptions of UpdateThread. Returns
     * NOT_FOUND / THREAD_NOT_FOUND if the thread does not exist, and OUT_OF_RANGE / CURSOR_INVALID if
     * `epoch` is given and is not the thread's.
     * Not idempotent: without `epoch`, a second call could delete a thread created in between. With
     * it, exactly one of several calls succeeds.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.threadbus.v1.DeleteThreadResponse> deleteThread(
        dev.threadbus.v1.DeleteThreadRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDeleteThreadMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_CREATE_THREAD = 0;
  private static final int METHODID_GET_THREAD = 1;
  private static final int METHODID_LIST_THREADS = 2;
  private static final int METHODID_JOIN_THREAD = 3;
  private static final int METHODID_LEAVE_THREAD = 4;
  private static final int METHODID_LIST_PARTICIPANTS = 5;
  private static final int METHODID_UPDATE_THREAD = 6;
  private static final int METHODID_SET_THREAD_STATE = 7;
  private static final int METHODID_DELETE_THREAD = 8;

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
        case METHODID_CREATE_THREAD:
          serviceImpl.createThread((dev.threadbus.v1.CreateThreadRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.CreateThreadResponse>) responseObserver);
          break;
        case METHODID_GET_THREAD:
          serviceImpl.getThread((dev.threadbus.v1.GetThreadRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.GetThreadResponse>) responseObserver);
          break;
        case METHODID_LIST_THREADS:
          serviceImpl.listThreads((dev.threadbus.v1.ListThreadsRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.ListThreadsResponse>) responseObserver);
          break;
        case METHODID_JOIN_THREAD:
          serviceImpl.joinThread((dev.threadbus.v1.JoinThreadRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.JoinThreadResponse>) responseObserver);
          break;
        case METHODID_LEAVE_THREAD:
          serviceImpl.leaveThread((dev.threadbus.v1.LeaveThreadRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.LeaveThreadResponse>) responseObserver);
          break;
        case METHODID_LIST_PARTICIPANTS:
          serviceImpl.listParticipants((dev.threadbus.v1.ListParticipantsRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.ListParticipantsResponse>) responseObserver);
          break;
        case METHODID_UPDATE_THREAD:
          serviceImpl.updateThread((dev.threadbus.v1.UpdateThreadRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.UpdateThreadResponse>) responseObserver);
          break;
        case METHODID_SET_THREAD_STATE:
          serviceImpl.setThreadState((dev.threadbus.v1.SetThreadStateRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.SetThreadStateResponse>) responseObserver);
          break;
        case METHODID_DELETE_THREAD:
          serviceImpl.deleteThread((dev.threadbus.v1.DeleteThreadRequest) request,
              (io.grpc.stub.StreamObserver<dev.threadbus.v1.DeleteThreadResponse>) responseObserver);
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
          getCreateThreadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.CreateThreadRequest,
              dev.threadbus.v1.CreateThreadResponse>(
                service, METHODID_CREATE_THREAD)))
        .addMethod(
          getGetThreadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.GetThreadRequest,
              dev.threadbus.v1.GetThreadResponse>(
                service, METHODID_GET_THREAD)))
        .addMethod(
          getListThreadsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.ListThreadsRequest,
              dev.threadbus.v1.ListThreadsResponse>(
                service, METHODID_LIST_THREADS)))
        .addMethod(
          getJoinThreadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.JoinThreadRequest,
              dev.threadbus.v1.JoinThreadResponse>(
                service, METHODID_JOIN_THREAD)))
        .addMethod(
          getLeaveThreadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.LeaveThreadRequest,
              dev.threadbus.v1.LeaveThreadResponse>(
                service, METHODID_LEAVE_THREAD)))
        .addMethod(
          getListParticipantsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.ListParticipantsRequest,
              dev.threadbus.v1.ListParticipantsResponse>(
                service, METHODID_LIST_PARTICIPANTS)))
        .addMethod(
          getUpdateThreadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.UpdateThreadRequest,
              dev.threadbus.v1.UpdateThreadResponse>(
                service, METHODID_UPDATE_THREAD)))
        .addMethod(
          getSetThreadStateMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.SetThreadStateRequest,
              dev.threadbus.v1.SetThreadStateResponse>(
                service, METHODID_SET_THREAD_STATE)))
        .addMethod(
          getDeleteThreadMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.threadbus.v1.DeleteThreadRequest,
              dev.threadbus.v1.DeleteThreadResponse>(
                service, METHODID_DELETE_THREAD)))
        .build();
  }

  private static abstract class ThreadServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    ThreadServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.threadbus.v1.ThreadServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("ThreadService");
    }
  }

  private static final class ThreadServiceFileDescriptorSupplier
      extends ThreadServiceBaseDescriptorSupplier {
    ThreadServiceFileDescriptorSupplier() {}
  }

  private static final class ThreadServiceMethodDescriptorSupplier
      extends ThreadServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    ThreadServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (ThreadServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new ThreadServiceFileDescriptorSupplier())
              .addMethod(getCreateThreadMethod())
              .addMethod(getGetThreadMethod())
              .addMethod(getListThreadsMethod())
              .addMethod(getJoinThreadMethod())
              .addMethod(getLeaveThreadMethod())
              .addMethod(getListParticipantsMethod())
              .addMethod(getUpdateThreadMethod())
              .addMethod(getSetThreadStateMethod())
              .addMethod(getDeleteThreadMethod())
              .build();
        }
      }
    }
    return result;
  }
}
