import type { KeyOverride } from "../../src/core/override";
import { overrideFromText } from "../../src/object/override-text";
import { costFor } from "./costs";
import { locationOf, type Model, type ModelEvent } from "./model";
import type { Network } from "./network";
import type { SimulatedObject } from "./simulated-object";
import { storedEvents } from "./system";

/** The disks must hold what the model holds: no event more often, none lost, none invented. */
export function mistakesOnDisks({ objects, overrideChanges }: Network, model: Model): string[] {
  const overriddenKeys = new Set(overrideChanges.map(({ key }) => key));
  return [...objects.values()].flatMap((object) => [
    ...mistakesInPages(object, model),
    ...mistakesInOverrides(object, model, overriddenKeys),
  ]);
}

function mistakesInPages({ name, disk, latestMs }: SimulatedObject, model: Model): string[] {
  const stored = storedEvents(disk).map(
    ({ key, id, identity, costs, released, atMs }) =>
      `${locationOf(name, key)} ${id} ${identity} ${costs} ${released} ${atMs}`,
  );
  const events = [...model.events]
    .filter(([location]) => location.startsWith(`${name} `))
    .flatMap(([, events]) => events);
  const recorded = events.map(textOfEvent);
  // A clock that was put back may have the object record an id twice in one millisecond, as two decisions.
  const excess = [...new Set(stored)].filter((event) => countOf(event, stored) > countOf(event, recorded));
  // A page that was rewritten may have left out events whose retention has passed.
  const lost = events.filter((event) => event.atMs + event.retainMs > latestMs && !stored.includes(textOfEvent(event)));
  return [
    ...excess.map((event) => `stored more often than recorded: ${event}`),
    ...lost.map((event) => `recorded, but not stored: ${textOfEvent(event)}`),
  ];
}

function countOf(event: string, events: readonly string[]): number {
  return events.filter((other) => other === event).length;
}

/** The stored override of a key must be the one that was set last, and must be there until it ends. */
function mistakesInOverrides({ name, disk, sweptMs }: SimulatedObject, model: Model, keys: Iterable<string>): string[] {
  const { overrides } = disk.open();
  const stored = [...keys].flatMap((key) => {
    const row = overrides.load(key);
    return row ? textOfOverride(locationOf(name, key), overrideFromText(row.text, row.endsAtMs)) : [];
  });
  const set = [...model.overrides].filter(([location]) => location.startsWith(`${name} `));
  const expected = set.map(([location, override]) => textOfOverride(location, override));
  const required = set
    .filter(([, { endsAtMs }]) => endsAtMs > sweptMs)
    .map(([location, override]) => textOfOverride(location, override));
  return [
    ...stored.filter((text) => !expected.includes(text)).map((text) => `stored, but never set: override of ${text}`),
    ...required.filter((text) => !stored.includes(text)).map((text) => `set, but not stored: override of ${text}`),
  ];
}

function textOfEvent({ location, name, costs, admittedCost, isReleased, atMs }: ModelEvent): string {
  const byLayer = [...costs].map(([layer, cost]) => `${layer} ${cost} of ${costFor(admittedCost, layer)}`);
  return `${location} ${name} ${byLayer} ${isReleased} ${atMs}`;
}

function textOfOverride(location: string, { kind, reason, endsAtMs, layers }: KeyOverride): string {
  return `${location} ${kind} ${reason} ${endsAtMs} ${JSON.stringify(layers)}`;
}
