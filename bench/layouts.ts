import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Miniflare } from "miniflare";
import { load, median } from "./load";

/**
 * `npm run bench:layouts`: what docs/storage.md weighed. An anonymous decision (two counters of one key) is stored in
 * the layouts that were considered, by the smallest object that could do it:
 * - ring: a row an event and counter, the oldest overwritten;
 * - text N, bytes N: a row a page of the key's events, as JSON text or packed bytes, sealed at N of them.
 */
const SCRIPT = `
import { DurableObject } from "cloudflare:workers";
export class Layouts extends DurableObject {
  tails = new Map();
  constructor(ctx, env) {
    super(ctx, env);
    this.sql = ctx.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS ring (slot INTEGER PRIMARY KEY, at INTEGER, cost INTEGER, id TEXT)");
    this.sql.exec("CREATE TABLE IF NOT EXISTS pages (key TEXT, slot INTEGER, expires INTEGER, events, PRIMARY KEY (key, slot)) WITHOUT ROWID");
  }
  decide(layout, size, key) {
    const tail = this.tails.get(key) ?? { number: this.tails.size, count: 0, slot: 0, text: "", bytes: new Uint8Array(0) };
    this.tails.set(key, tail);
    const id = crypto.randomUUID();
    const now = Date.now();
    tail.count++;
    if (layout === "ring") {
      let rows = 0;
      for (const counter of [0, 1])
        rows += this.sql.exec("INSERT OR REPLACE INTO ring VALUES (?, ?, ?, ?)", (tail.number * 2 + counter) * 1048576 + tail.count % size, now, 1, id).rowsWritten;
      return rows;
    }
    if (tail.text.length + tail.bytes.length >= size) Object.assign(tail, { slot: tail.slot + 1, text: "", bytes: new Uint8Array(0) });
    if (layout === "text") tail.text += (tail.text && ",") + JSON.stringify([now % 1e7, 0, 1, id]);
    else {
      const record = new Uint8Array(46);
      new DataView(record.buffer).setFloat64(0, now);
      new TextEncoder().encodeInto(id, record.subarray(10));
      const bytes = new Uint8Array(tail.bytes.length + 46);
      bytes.set(tail.bytes); bytes.set(record, tail.bytes.length);
      tail.bytes = bytes;
    }
    const events = layout === "text" ? '{"v":1,"at":0,"charged":[["chat",["caller","ip"],3600000]],"events":[' + tail.text + "]}" : tail.bytes;
    return this.sql.exec("INSERT INTO pages VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET expires = excluded.expires, events = excluded.events", key, tail.slot, now, events).rowsWritten;
  }
  many(layout, size, count) {
    let rows = 0;
    const start = Date.now();
    for (let i = 0; i < count; i++) rows += this.decide(layout, size, "user:long");
    return { rows: rows / count, writeMs: Date.now() - start };
  }
  cold(layout) {
    const start = Date.now();
    const at = [];
    if (layout === "ring") for (const row of this.sql.exec("SELECT at FROM ring WHERE slot < 2097152").raw()) at.push(row[0]);
    else
      for (const [events] of this.sql.exec("SELECT events FROM pages WHERE key = 'user:long'").raw()) {
        if (layout === "text") for (const event of JSON.parse(events).events) at.push(event[0]);
        else for (let o = 0; o < events.byteLength; o += 46) at.push(new DataView(events).getFloat64(o));
      }
    return { events: at.length, readMs: Date.now() - start };
  }
}
export default { async fetch(request, env) {
  const { layout, size, call, key } = await request.json();
  const object = env.OBJECTS.getByName(layout + size);
  if (call === "decide") return Response.json(await object.decide(layout, size, key));
  if (call === "many") return Response.json(await object.many(layout, size, 100000));
  return Response.json(await object.cold(layout));
} }`;

const LAYOUTS = [
  { layout: "ring", size: 1_000_000 },
  { layout: "text", size: 1_000 },
  { layout: "text", size: 2_000 },
  { layout: "text", size: 4_000 },
  { layout: "text", size: 8_000 },
  { layout: "bytes", size: 2_000 },
];

const miniflare = new Miniflare({
  modules: true,
  script: SCRIPT,
  compatibilityDate: "2026-04-24",
  durableObjects: { OBJECTS: { className: "Layouts", useSQLite: true } },
  defaultPersistRoot: mkdtempSync(join(tmpdir(), "limiter-")),
  cf: false,
  unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }],
});
const url = String(await miniflare.unsafeGetDirectURL());
const post = async (body: unknown) => (await fetch(url, { method: "POST", body: JSON.stringify(body) })).json();

const perSecond = new Map<string, number[]>();
for (let round = 0; round < 3; round++)
  for (const { layout, size } of LAYOUTS) {
    process.stderr.write(`\rround ${round + 1} of 3: ${layout} ${size}    `);
    const bodies = Array.from({ length: 1_000 }, (_, i) => ({ call: "decide", layout, size, key: `user:u_${i}` }));
    const { requestsPerSecond } = await load({ url, connections: 32, seconds: 3, bodies });
    const name = `${layout} ${size}`;
    perSecond.set(name, [...(perSecond.get(name) ?? []), requestsPerSecond]);
  }
process.stderr.write("\r".padEnd(40));

console.log("\rlayout       rows a decision   decisions/s   100,000 events: written in   read when cold in");
for (const { layout, size } of LAYOUTS) {
  const name = `${layout} ${size}`;
  const { rows, writeMs } = (await post({ call: "many", layout, size })) as { rows: number; writeMs: number };
  const { readMs } = (await post({ call: "cold", layout, size })) as { readMs: number };
  const speed = median(perSecond.get(name) ?? []).toFixed(0);
  console.log(
    `${name.padEnd(13)}${String(rows).padStart(15)}${speed.padStart(14)}${`${writeMs} ms`.padStart(29)}${`${readMs} ms`.padStart(20)}`,
  );
}
await miniflare.dispose();
