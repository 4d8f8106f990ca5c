/** A tiny agent: joins a thread, follows it, echoes what is addressed to it, leaves at "stop". */
import { ThreadBus } from './threadbus.mjs';

const [address, thread, name] = process.argv.slice(2);
if (!name) {
  console.error('usage: node example.mjs HOST:PORT THREAD NAME');
  process.exit(2);
}
const say = (line) => console.log(JSON.stringify(line));
const bus = new ThreadBus(address);
try {
  await bus.register(name, process.env.THREADBUS_TOKEN);
  const { cursor } = await bus.join(thread, { start: 'JOIN_START_FIRST' });
  say({ joined: thread, after_seq: cursor.after_seq });
  for await (const message of bus.follow(cursor)) {
    const { seq, sender, content } = message;
    say({ seq, sender, content });
    if (message.mentions.includes(name) || message.handoff_to === name) {
      // The id tells what is answered: killed here and started again, it still answers once.
      const answer = { reply_to: seq, request_id: `echo-${seq}` };
      const posted = await bus.post(thread, `echo: ${content}`, answer);
      say({ posted: posted.seq, reply_to: seq, deduplicated: posted.deduplicated });
    }
    await bus.markRead(message);
    if (content === 'stop') break;
  }
} catch (error) {
  console.error(JSON.stringify({ code: error.code, reason: error.reason, message: error.message }));
  process.exitCode = 1;
} finally {
  bus.close();
}
