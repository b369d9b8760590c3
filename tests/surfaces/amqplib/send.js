// Sends commands to cronexec from Node.js, and prints the replies: one JSON document a line, in the order of the commands.
//
//   node send.js AMQP_URL NAMESPACE < commands.jsonl
//
// What any client has to do: publish persistent messages to the queue NAMESPACE.commands through the default exchange, `mandatory` (a
// queue that does not exist yet is an error, not a loss) and with confirms; and, for replies, name a queue and a correlation id.

const amqp = require('amqplib');

async function main([url, namespace], lines) {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  channel.on('return', (message) => {
    console.error(`nobody takes commands: the queue ${message.fields.routingKey} does not exist`);
    process.exit(1);
  });

  const replies = new Map();
  const { queue } = await channel.assertQueue('', { exclusive: true, autoDelete: true });
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  await channel.consume(queue, (message) => {
    replies.set(message.properties.correlationId, message.content.toString());
    if (replies.size === lines.length) done();
  }, { noAck: true });

  lines.forEach((line, number) => {
    channel.sendToQueue(`${namespace}.commands`, Buffer.from(line), {
      persistent: true,
      mandatory: true,
      contentType: 'application/json',
      correlationId: String(number),
      replyTo: queue,
    });
  });
  await channel.waitForConfirms();
  await all;
  lines.forEach((_, number) => console.log(replies.get(String(number))));
  await connection.close();
}

const input = require('fs').readFileSync(0, 'utf8');
main(process.argv.slice(2), input.split('\n').filter((line) => line.trim()));
