package dev.threadbus.client;

import dev.threadbus.v1.MessageFilter;

/**
 * The options of {@link ThreadBus#follow} and {@link ThreadBus#inbox}.
 *
 * @param filter which messages to deliver. Null = all but the agent's own; of these, inbox delivers
 *     only those that are addressed to the agent
 * @param omitAttachmentData whether to leave out the bytes of attachments
 * @param maxContentBytes where to cut off longer texts, at most 64 bytes earlier; see {@link
 *     ThreadBus#isTruncated}. 0 = no limit
 * @param continueOnResync whether to continue at the server's position when messages are not kept
 *     any more, or a cursor is lost in another way, instead of throwing {@link CursorLostException}
 */
public record FollowOptions(MessageFilter filter, boolean omitAttachmentData, long maxContentBytes,
    boolean continueOnResync) {
  /** Suits most agents. */
  public static final FollowOptions DEFAULT = new FollowOptions(null, false, 0, false);

  /** Returns these options with another filter. */
  public FollowOptions withFilter(MessageFilter filter) {
    return new FollowOptions(filter, omitAttachmentData, maxContentBytes, continueOnResync);
  }

  /** Returns these options with or without the bytes of attachments. */
  public FollowOptions withOmitAttachmentData(boolean omitAttachmentData) {
    return new FollowOptions(filter, omitAttachmentData, maxContentBytes, continueOnResync);
  }

  /** Returns these options with another limit of texts. */
  public FollowOptions withMaxContentBytes(long maxContentBytes) {
    return new FollowOptions(filter, omitAttachmentData, maxContentBytes, continueOnResync);
  }

  /** Returns these options with the choice whether to continue when a cursor is lost. */
  public FollowOptions withContinueOnResync(boolean continueOnResync) {
    return new FollowOptions(filter, omitAttachmentData, maxContentBytes, continueOnResync);
  }
}
