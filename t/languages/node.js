// SPDX-License-Identifier: Apache-2.0
const fs = require("fs"), net = require("net");
const {Worker} = require("worker_threads");
const mode = process.argv[2];
function inner() { throw new Error("told to"); }
const modes = {
  hello: () => console.log("Hello, World!"),
  stdin: () => process.stdout.write(fs.readFileSync(0)),
  args: () => console.log(process.argv.slice(3).map((a) => `[${a}]`).join("")),
  env: () => console.log(process.env.GREETING),
  exit: () => process.exit(3),
  throw: () => inner(),
  loop: () => { for (;;); },
  alloc: () => console.log(Buffer.alloc(2 ** 30, "x").length),
  flood: () => process.stdout.write("x".repeat(10485760)),
  threads: () => {
    let sum = 0, left = 4;
    for (const i of [1, 2, 3, 4])
      new Worker("const w = require('worker_threads'); w.parentPort.postMessage(w.workerData)", {eval: true, workerData: i})
        .on("message", (n) => { sum += n; if (--left === 0) console.log(sum); });
  },
  write: () => fs.writeFileSync("/work/outputs/made.txt", "made here\n"),
  read: () => process.stdout.write(fs.readFileSync("in.txt")),
  net: () => net.connect(80, "1.1.1.1").on("connect", () => { console.log("connected"); process.exit(0); })
    .on("error", () => console.log("none")),
};
modes[mode]();
