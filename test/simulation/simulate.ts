import { parseArgs } from "node:util";
import { runHistory } from "./history";

/**
 * `npm run simulate -- --seconds 600` runs histories from new seeds for 600 s. `--seed N` repeats one history. Every
 * failure prints its seed.
 */
const { values } = parseArgs({
  options: { seconds: { type: "string", default: "60" }, seed: { type: "string" } },
});

// The service logs every lost call. A history loses calls on purpose.
console.error = () => {};

/** Resolves with whether the history is sound. */
async function run(seed: number): Promise<boolean> {
  const mistakes = await runHistory(seed);
  if (mistakes.length > 0) console.log(`\nseed ${seed}:\n  ${mistakes.join("\n  ")}`);
  return mistakes.length === 0;
}

if (values.seed !== undefined) {
  const isSound = await run(Number(values.seed));
  console.log(isSound ? `seed ${values.seed}: sound` : "");
  process.exitCode = isSound ? 0 : 1;
} else {
  const startedMs = Date.now();
  const endMs = startedMs + Number(values.seconds) * 1_000;
  let seed = Math.floor(Math.random() * 2 ** 31);
  let histories = 0;
  let failed = 0;
  console.log(`from seed ${seed}`);
  for (; Date.now() < endMs; seed++) {
    if (!(await run(seed))) failed++;
    histories++;
    if (histories % 1_000 === 0) process.stderr.write(`\r${histories} histories, ${failed} failed`);
  }
  const perSecond = (histories / (Date.now() - startedMs)) * 1_000;
  console.log(`\n${histories} histories, ${perSecond.toFixed(0)} a second, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
}
