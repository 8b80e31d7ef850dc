import { expect, test } from "vitest";
import type { PagedEvent } from "../../src/object/page";
import type { PageRow, PageStore } from "../../src/object/page-store";
import { Pages } from "../../src/object/pages";

const row = (slot: number, atMs: number): PageRow => ({
  key: "user:u",
  slot,
  expiresAtMs: atMs + 60_000,
  firstAtMs: atMs,
  lastAtMs: atMs,
  text: JSON.stringify({ v: 1, at: atMs, charged: [], events: [] }),
});
const pagesOf = (rows: readonly PageRow[]) =>
  new Pages({ pages: () => rows } as unknown as PageStore, "user:u", 2_000, () => {});

test("a store that gives pages out of their order is a fault", () => {
  expect(pagesOf([row(1, 10), row(0, 20)]).newestMs).toBe(20);
  expect(() => pagesOf([row(1, 20), row(0, 10)])).toThrow("in the order of their times");
});

test("an event that is older than the events of its key is a fault", () => {
  const event: PagedEvent = {
    id: "a",
    atMs: 19,
    cost: 1,
    admittedCost: 1,
    released: false,
    identity: "l=s",
    claims: [],
    charged: { policy: "p", layers: ["l"], retainMs: 60_000, windowMs: 60_000 },
  };
  const retention = { nowMs: 19, keeps: () => true, spares: () => false };
  const pages = pagesOf([row(0, 20)]);
  expect(() => pages.append(event, 60_019, retention)).toThrow("a new event is not older");
  expect(() => pages.append({ ...event, atMs: 20 }, 60_020, retention)).not.toThrow();
});
