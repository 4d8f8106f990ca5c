// Prints how many tokens of o200k_base each line of stdin has, which is a JSON string.
const readline = require('node:readline')
const { Tiktoken } = require('js-tiktoken/lite')
const encoding = new Tiktoken(require('js-tiktoken/ranks/o200k_base'))

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  console.log(encoding.encode(JSON.parse(line), [], []).length)
})
