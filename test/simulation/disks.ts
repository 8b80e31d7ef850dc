import type { KeyOverride } from "../../src/core/override";
import { overrideFromText } from "../../src/object/override-text";
import { type Event, type Model, placeOf } from "./model";
import type { Network, SimulatedObject } from "./network";
import { storedEvents } from "./system";

/** Nothing is charged twice, nothing is lost, nothing is made up: the disks hold what the model does. */
export function mistakesOnDisks({ objects, orders }: Network, model: Model): string[] {
  const ordered = new Set(orders.map(({ key }) => key));
  return [...objects.values()].flatMap((object) => [
    ...mistakesInPages(object, model),
    ...mistakesInOverrides(object, model, ordered),
  ]);
}

function mistakesInPages({ name, disk, latestMs }: SimulatedObject, model: Model): string[] {
  const stored = storedEvents(disk).map(
    ({ key, id, identity, cost, released, atMs }) =>
      `${placeOf(name, key)} ${id} ${identity} ${cost} ${released} ${atMs}`,
  );
  const events = [...model.events].filter(([place]) => place.startsWith(`${name} `)).flatMap(([, events]) => events);
  const recorded = events.map(textOfEvent);
  // A clock that was put back may have the object record an id twice in one millisecond: as two decisions.
  const excess = [...new Set(stored)].filter((event) => countOf(event, stored) > countOf(event, recorded));
  // A page that was rewritten may have left out what is not kept any more.
  const lost = events.filter((event) => event.atMs + event.retainMs > latestMs && !stored.includes(textOfEvent(event)));
  return [
    ...excess.map((event) => `stored more often than recorded: ${event}`),
    ...lost.map((event) => `recorded, and not stored: ${textOfEvent(event)}`),
  ];
}

function countOf(event: string, events: readonly string[]): number {
  return events.filter((other) => other === event).length;
}

/** What overrides a key is what was set last: until it ends it is neither lost nor another. */
function mistakesInOverrides({ name, disk, sweptMs }: SimulatedObject, model: Model, keys: Iterable<string>): string[] {
  const { overrides } = disk.open();
  const stored = [...keys].flatMap((key) => {
    const row = overrides.load(key);
    return row ? textOf(placeOf(name, key), overrideFromText(row.text, row.endsAtMs)) : [];
  });
  const set = [...model.overrides].filter(([place]) => place.startsWith(`${name} `));
  const texts = set.map(([place, override]) => textOf(place, override));
  const held = set.filter(([, { endsAtMs }]) => endsAtMs > sweptMs).map(([place, override]) => textOf(place, override));
  return [
    ...stored.filter((text) => !texts.includes(text)).map((text) => `stored, and never set: override of ${text}`),
    ...held.filter((text) => !stored.includes(text)).map((text) => `set, and not stored: override of ${text}`),
  ];
}

/** As it is stored. */
function textOfEvent({ place, name, cost, isOver, atMs }: Event): string {
  return `${place} ${name} ${cost} ${isOver} ${atMs}`;
}

function textOf(place: string, { kind, reason, endsAtMs, layers }: KeyOverride): string {
  return `${place} ${kind} ${reason} ${endsAtMs} ${JSON.stringify(layers)}`;
}
