import fc from "fast-check";
import { expect, test } from "vitest";
import type { PagedEvent } from "../../src/object/event";
import { EventIndex } from "../../src/object/event-index";

const event = (id: string) => ({ id, identity: "caller=x" }) as PagedEvent;

test("finds every page of an id, the newest first, whatever was added, removed and overwritten", () => {
  const id = fc.nat({ max: 60 }).map((n) => `id-${n}`);
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ add: id }) },
    { weight: 2, arbitrary: fc.record({ remove: id }) },
    { weight: 1, arbitrary: fc.constant("next page" as const) },
    { weight: 1, arbitrary: fc.constant("overwrite" as const) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300, size: "max" }), (steps) => {
      const pages = new Map<number, Set<string>>([[1, new Set()]]);
      const index = new EventIndex((serial) => pages.has(serial));
      let newest = 1;
      for (const step of steps) {
        if (step === "next page") pages.set(++newest, new Set());
        else if (step === "overwrite") {
          const [oldest] = pages.keys();
          if (oldest !== undefined && oldest !== newest) pages.delete(oldest);
        } else if ("add" in step) {
          index.add(newest, event(step.add));
          pages.get(newest)?.add(step.add);
        } else for (const [serial, ids] of pages) if (ids.delete(step.remove)) index.remove(serial, step.remove, []);
      }
      for (let n = 0; n <= 60; n++) {
        const expected = [...pages].filter(([, ids]) => ids.has(`id-${n}`)).map(([serial]) => serial);
        expect(index.serialsOf(`id-${n}`)).toEqual(expected.reverse());
      }
    }),
  );
});

test("takes no more memory for ids that come and go", () => {
  const index = new EventIndex(() => true);
  for (let i = 0; i < 10_000; i++) {
    index.add(1, event(`id-${i}`));
    index.remove(1, `id-${i}`, []);
  }
  const few = new EventIndex(() => true);
  for (let i = 0; i < 10; i++) few.add(1, event(`id-${i}`));
  expect(index.weightBytes).toBeLessThanOrEqual(few.weightBytes);
});
