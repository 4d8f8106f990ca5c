package dev.threadbus.client;

import dev.threadbus.v1.BusServiceGrpc;
import dev.threadbus.v1.Cursor;
import dev.threadbus.v1.GetMessageRequest;
import dev.threadbus.v1.ListRequestsRequest;
import dev.threadbus.v1.ListRequestsResponse;
import dev.threadbus.v1.Message;
import dev.threadbus.v1.MessageKind;
import dev.threadbus.v1.Notice;
import dev.threadbus.v1.PostMessageRequest;
import dev.threadbus.v1.PostMessageResponse;
import dev.threadbus.v1.Request;
import dev.threadbus.v1.RequestState;
import dev.threadbus.v1.Wake;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** A message that asks agents for a reply; {@link ThreadBus#ask} describes it. */
final class Question {
  private final ThreadBus bus;
  private final String thread;
  private final long seq;
  private final String epoch;
  private final List<String> asked = new ArrayList<>();
  private final Set<String> hopes; // the agents asked without a notice
  private final Set<Long> seqs = new HashSet<>(); // of the question and its edits

  Question(ThreadBus bus, PostMessageRequest request, PostMessageResponse posted) {
    this.bus = bus;
    thread = request.getThread();
    seq = posted.getSeq();
    epoch = posted.getEpoch();
    asked.addAll(request.getExpectReply().getAgentsList());
    if (asked.isEmpty()) {
      asked.addAll(request.getMentionsList());
      if (!request.getHandoffTo().isEmpty()) {
        asked.add(request.getHandoffTo());
      }
    }
    hopes = new HashSet<>(asked);
    seqs.add(seq);
  }

  /** The position after the question. */
  Cursor cursor() {
    return Cursor.newBuilder().setThread(thread).setAfterSeq(seq).setEpoch(epoch).build();
  }

  /** Returns the first reply in a follow from {@link #cursor}. Throws UnansweredException. */
  Message reply(Follow follow) {
    boolean gone = false; // the question, and so its requests ended
    try {
      for (Message message : follow) {
        Message reply = weigh(message);
        if (reply != null) {
          return reply;
        }
      }
    } catch (CursorLostException lost) {
      if (!lost.isCompacted()) {
        throw lost;
      }
      gone = true;
    }
    if (Thread.currentThread().isInterrupted()) {
      throw BusException.interrupted();
    }
    boolean closed = gone || follow.isThreadClosed(); // else a call would start another session
    Message reply = closed ? settled() : null;
    if (reply != null) {
      return reply;
    }
    throw unanswered(closed ? "CLOSED" : "SESSION_ENDED", asked.get(asked.size() - 1));
  }

  /** Returns the reply, if a message is one or there turns out to be one; otherwise null. */
  private Message weigh(Message message) {
    Notice notice = message.getNotice();
    if (message.getEditOf() == seq) {
      seqs.add(message.getSeq());
    } else if (seqs.contains(message.getReplyTo()) && asked.contains(message.getSender())
        && message.getWakes() != Wake.WAKE_NOBODY) {
      return message;
    } else if (notice.getRequestSeq() == seq) {
      hopes.remove(notice.getAgent());
      if (hopes.isEmpty()) {
        Message reply = settled(); // it may have come since
        if (reply != null) {
          return reply;
        }
        throw unanswered(notice.getReason().name().substring("REASON_".length()),
            notice.getAgent());
      }
    } else if (message.getKind() == MessageKind.MESSAGE_KIND_THREAD) {
      return settled(); // it may have been closed
    }
    return null;
  }

  /**
   * Looks at the requests of the question. Returns a reply, or null. Throws UnansweredException if
   * no request is open any more.
   */
  private Message settled() {
    Request ended = null;
    boolean open = false;
    for (Request request : requests()) {
      if (request.getState() == RequestState.REQUEST_STATE_ANSWERED) {
        return bus.call(BusServiceGrpc.getGetMessageMethod(), GetMessageRequest.newBuilder()
            .setThread(thread).setSeq(request.getReplySeq()).build()).getMessage();
      }
      open |= request.getState() == RequestState.REQUEST_STATE_OPEN;
      ended = request;
    }
    if (open || ended == null) {
      return null;
    }
    boolean withdrawn = ended.getState() == RequestState.REQUEST_STATE_WITHDRAWN;
    // CLOSED also for a state that this client does not know.
    throw unanswered(withdrawn ? "WITHDRAWN" : "CLOSED", ended.getAgent());
  }

  private List<Request> requests() {
    List<Request> found = new ArrayList<>();
    var list = ListRequestsRequest.newBuilder().setThread(thread);
    boolean newer; // the list begins with the newest
    do {
      ListRequestsResponse page = bus.call(BusServiceGrpc.getListRequestsMethod(), list.build());
      newer = !page.getNextPageToken().isEmpty();
      for (Request request : page.getRequestsList()) {
        newer &= request.getSeq() >= seq;
        if (request.getSeq() == seq && request.getEpoch().equals(epoch)) {
          found.add(request);
        }
      }
      list.setPageToken(page.getNextPageToken());
    } while (newer);
    return found;
  }

  private UnansweredException unanswered(String reason, String agent) {
    return new UnansweredException(reason, agent, thread, seq);
  }
}
