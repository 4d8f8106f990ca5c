// The official MCP clients for TypeScript, as a program that driver.py describes.
//
//     mcp-node client.cjs 1|2 SERVER      with @modelcontextprotocol/sdk 1.x, or .../client 2.x
const readline = require('node:readline')

const [sdk, server] = process.argv.slice(2)
const { Client } = require(
  sdk === '1' ? '@modelcontextprotocol/sdk/client/index.js' : '@modelcontextprotocol/client',
)
const { StdioClientTransport } = require(
  sdk === '1' ? '@modelcontextprotocol/sdk/client/stdio.js' : '@modelcontextprotocol/client/stdio',
)

const say = (document) => process.stdout.write(`${JSON.stringify(document)}\n`)
const open = new Map()

async function result(client, command) {
  const { id, do: what, tool, arguments: given, timeout, progress, traceparent } = command
  if (what === 'ping') {
    await client.ping()
    return {}
  }
  if (what === 'tools') return { tools: (await client.listTools()).tools }
  const options = { signal: open.get(id).signal, timeout: timeout * 1000 }
  if (progress) {
    options.onprogress = (made) => say({ id, total: null, message: null, ...made })
    options.resetTimeoutOnProgress = true
  }
  const call = { name: tool, arguments: given }
  if (traceparent) call._meta = { traceparent }
  const answer =
    sdk === '1'
      ? await client.callTool(call, undefined, options)
      : await client.callTool(call, options)
  if (answer.structuredContent) throw new Error('structured content')
  if (answer.content.some(({ type }) => type !== 'text')) throw new Error('not a text')
  return {
    text: answer.content.map(({ text }) => text).join('\n'),
    is_error: answer.isError ?? false,
  }
}

async function perform(client, command) {
  const { id } = command
  open.set(id, new AbortController())
  try {
    say({ id, ...(await result(client, command)) })
  } catch (error) {
    const cancelled = open.get(id).signal.aborted
    say({ id, failed: cancelled ? 'cancelled' : `${error.name}: ${error.message}` })
  } finally {
    open.delete(id)
  }
}

async function main() {
  const transport = new StdioClientTransport({ ...JSON.parse(server), stderr: 'inherit' })
  let protocol
  transport.setProtocolVersion = (version) => {
    protocol = version
  }
  const client = new Client({ name: `test-typescript-${sdk}`, version: '1' })
  await client.connect(transport)
  say({
    id: 0,
    name: client.getServerVersion().name,
    protocol,
    instructions: client.getInstructions(),
  })
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line)
    if (command.do === 'cancel') open.get(command.call)?.abort()
    else perform(client, command)
  }
  await client.close()
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
