/** A minimal agent: joins a thread, echoes messages addressed to it, and exits on "stop". */
import { JoinStart } from '../gen/threadbus/v1/thread_service.js';
import { BusError, ThreadBus } from './threadbus.js';

const [address, thread, name] = process.argv.slice(2);
if (!address || !thread || !name) {
  console.error('usage: node example.js HOST:PORT THREAD NAME');
  process.exit(2);
}
const say = (line: object) => console.log(JSON.stringify(line));
const { env } = process;
let bus: ThreadBus | undefined;
try {
  bus = new ThreadBus(address, {
    caFile: env.THREADBUS_CA_FILE,
    clientCert: env.THREADBUS_CLIENT_CERT,
    clientKey: env.THREADBUS_CLIENT_KEY,
  });
  await bus.register(name, env.THREADBUS_TOKEN);
  const { cursor } = await bus.join(thread, { start: JoinStart.JOIN_START_FIRST });
  say({ joined: thread, after_seq: cursor.afterSeq });
  for await (const message of bus.follow(cursor)) {
    const { seq, sender, content } = message;
    say({ seq, sender, content });
    if (message.mentions.includes(name) || message.handoffTo === name) {
      // The id is derived from the message: if killed here and restarted, it still replies only
      // once.
      const answer = { replyTo: seq, requestId: `echo-${seq}` };
      const posted = await bus.post(thread, `echo: ${content}`, answer);
      say({ posted: posted.seq, reply_to: seq, deduplicated: posted.deduplicated });
    }
    await bus.markRead(message);
    if (content === 'stop') break;
  }
  await bus.goodbye();
} catch (error) {
  const { code = '', reason = '' } = error instanceof BusError ? error : {};
  console.error(JSON.stringify({ code, reason, message: (error as Error).message }));
  process.exitCode = 1;
} finally {
  bus?.close();
}
