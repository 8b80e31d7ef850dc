import { expect, test } from "vitest";
import { readJson } from "../../src/http/body";
import { realTiming } from "../../src/objects/timing";

const TYPE = { "Content-Type": "application/json" };

/** A request whose body is a stream. */
function requestOf(chunks: (controller: ReadableStreamDefaultController<Uint8Array>) => void, headers = {}): Request {
  const init = { method: "POST", headers: { ...TYPE, ...headers }, body: new ReadableStream({ start: chunks }) };
  return new Request("http://limiter/", { ...init, duplex: "half" } as RequestInit);
}

const bytes = (length: number) => new Uint8Array(length).fill(0x20);

test("a body that stops arriving is a 408 after 10 seconds", async () => {
  const waits: { ms: number; work: () => void }[] = [];
  const timing = {
    ...realTiming,
    after: (ms: number, work: () => void) => {
      waits.push({ ms, work });
      return () => {};
    },
  };
  const read = readJson(
    requestOf((body) => body.enqueue(bytes(1))),
    undefined,
    timing,
  );
  expect(waits.map(({ ms }) => ms)).toEqual([10_000]);
  waits[0]?.work();
  await expect(read).rejects.toMatchObject({ status: 408 });
});

test("a body that ends early is a refusal", async () => {
  const read = readJson(requestOf((body) => body.error(new Error("Network connection lost."))));
  await expect(read).rejects.toMatchObject({ kind: "invalid" });
});

test("a body without Content-Length is read up to 8 KiB", async () => {
  const body = (length: number) =>
    requestOf((body) => {
      body.enqueue(bytes(8_190 - 2));
      body.enqueue(new TextEncoder().encode("{}"));
      body.enqueue(bytes(length - 8_190));
      // Left open above the bound: the rest must not be awaited.
      if (length <= 8_192) body.close();
    });
  expect(await readJson(body(8_192))).toEqual({});
  await expect(readJson(body(8_193))).rejects.toMatchObject({ status: 413 });
});

test("a body with both a length and chunks is refused before it is read", async () => {
  const request = requestOf(() => {}, { "Content-Length": "2", "Transfer-Encoding": "chunked" });
  await expect(readJson(request)).rejects.toMatchObject({ kind: "invalid" });
});
