import { expect, test } from "vitest";
import type { PagedEvent } from "../../src/object/event";
import { contentOf, Page, readPage } from "../../src/object/page";
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
  new Pages(
    {} as PageStore,
    "user:u",
    2_000,
    rows,
    () => {},
    (nowMs) => ({ nowMs, keeps: () => true, spares: () => false }),
  );

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
  const pages = pagesOf([row(0, 20)]);
  expect(() => pages.append(event, 60_019)).toThrow("a new event is not older");
  expect(() => pages.append({ ...event, atMs: 20 }, 60_020)).not.toThrow();
});

test("an event with costs by layer is read back, and earlier code finds numbers where it reads them", () => {
  const charged = { policy: "llm", layers: ["requests", "tokens"], retainMs: 60_000, windowMs: 60_000 };
  const claims = [{ attempt: "a", isMaker: true, relies: true }];
  const event = { identity: "requests=s,tokens=s", atMs: 10, charged, claims, released: false };
  const admittedCost = { requests: 1, tokens: 400, budget: 0 };
  const events: PagedEvent[] = [
    { ...event, id: "a", cost: { requests: 1, tokens: 400 }, admittedCost },
    { ...event, id: "b", cost: { requests: 0, tokens: 7 }, admittedCost, released: true },
    { ...event, id: "c", cost: 0, admittedCost },
    { ...event, id: "d", cost: { requests: 5, tokens: 0 }, admittedCost: 1 },
    { ...event, id: "e", cost: 0, admittedCost: 0 },
  ];
  const page = new Page(0, { expiresAtMs: 0, lastAtMs: 0 }, events);
  expect(readPage(page.toText())).toEqual(events);
  const texts: unknown[][] = JSON.parse(page.toText()).events;
  // The cost, the cost at admission and whether it is released. Of several layers the highest: it must not count too little.
  expect(texts.map((text) => [text[2], text[6], text[7]])).toEqual([
    [400, 400, 0],
    [7, 400, 1],
    [0, 400, 0],
    [5, 1, 0],
    [0, undefined, undefined],
  ]);
});

test("a page that earlier code has written keeps its events, and is written whole when it next changes", () => {
  const charged = { policy: "p", layers: ["l"], retainMs: 60_000, windowMs: 60_000 };
  const event = (id: string, identity: string, atMs: number): PagedEvent => ({
    ...{ id, identity, atMs, charged },
    ...{ cost: 1, admittedCost: 1, released: false, claims: [{ attempt: "a", isMaker: true, relies: true }] },
  });
  const events = [event("a", "l=s", 10), event("b", "l=s", 20), event("c", "l=t", 20)];
  const text = JSON.stringify({
    ...{ v: 1, at: 10, charged: [["p", ["l"], 60_000]] },
    events: events.map(({ id, identity, atMs }) => [atMs - 10, 0, 1, id, identity, ["a"]]),
  });
  const page = Page.fromRow({ ...row(0, 10), lastAtMs: 20, text }, contentOf(text));
  page.append(event("d", "l=t", 30), 60_030);
  const written = page.takeChange("user:u");
  expect(written.appended).toBeUndefined();
  expect(readPage(written.text)).toEqual([...events, event("d", "l=t", 30)]);

  // The page as it is stored now takes appends, and names an identity only where it changes.
  const stored = Page.fromRow(written, contentOf(written.text));
  stored.append(event("e", "l=t", 40), 60_040);
  stored.append(event("f", "l=s", 40), 60_040);
  const { appended, text: whole } = stored.takeChange("user:u");
  expect(appended).toEqual({ length: written.text.length, events: expect.not.stringContaining("l=t") });
  expect(whole).toBe(`${written.text.slice(0, -2)}${appended?.events}]}`);
  expect(readPage(whole).map(({ id, identity }) => id + identity)).toEqual([
    "al=s",
    "bl=s",
    "cl=t",
    "dl=t",
    "el=t",
    "fl=s",
  ]);
  expect(JSON.stringify(JSON.parse(whole))).toBe(whole);
});
