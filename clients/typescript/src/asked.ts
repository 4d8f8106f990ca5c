/** What became of the requests of a question. */
import { BusServiceService, GetMessageRequest, ListRequestsRequest }
  from '../gen/threadbus/v1/bus_service.js';
import { type Request, RequestState } from '../gen/threadbus/v1/request.js';
import { Unanswered } from './errors.js';
import type { Followed } from './place.js';
import type { ThreadBus } from './threadbus.js';

/**
 * Returns a reply to the question, or undefined. Throws Unanswered if no request is open any more,
 * and BusError.
 */
export async function settled(
  bus: ThreadBus, thread: string, seq: number, epoch: string,
): Promise<Followed | undefined> {
  const requests = await requestsOf(bus, thread, seq, epoch);
  const inState = (wanted: RequestState) => requests.find(({ state }) => state === wanted);
  const answered = inState(RequestState.REQUEST_STATE_ANSWERED);
  if (answered) {
    const request = GetMessageRequest.create({ thread, seq: answered.replySeq });
    const { message } = await bus.call(BusServiceService.getMessage, request);
    return { ...message!, epoch, hiddenSeq: 0 };
  }
  const last = requests.at(-1);
  if (!last || inState(RequestState.REQUEST_STATE_OPEN)) return undefined;
  const withdrawn = last.state === RequestState.REQUEST_STATE_WITHDRAWN;
  const reason = withdrawn ? 'WITHDRAWN' : 'CLOSED'; // also for a state that is not known
  throw new Unanswered(reason, last.agent, thread, seq);
}

async function requestsOf(
  bus: ThreadBus, thread: string, seq: number, epoch: string,
): Promise<Request[]> {
  const found: Request[] = [];
  const list = ListRequestsRequest.create({ thread });
  do { // the list begins with the newest
    const { requests, nextPageToken } = await bus.call(BusServiceService.listRequests, list);
    found.push(...requests.filter((each) => each.seq === seq && each.epoch === epoch));
    list.pageToken = requests.some((each) => each.seq < seq) ? '' : nextPageToken;
  } while (list.pageToken);
  return found;
}
