import { parseArgs } from "node:util";
import { startArena } from "./contestants";
import { measureAll } from "./measure";
const { values } = parseArgs({ options: { rounds: { type: "string", default: "3" }, seconds: { type: "string", default: "2" } } });
const arena = await startArena();
const r = await measureAll(arena, { rounds: Number(values.rounds), seconds: Number(values.seconds) });
console.log(r);
await arena.stop();
process.exit();
