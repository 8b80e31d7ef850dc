import { type Command, InvalidArgumentError } from "commander";
import type { KeyState, OverriddenKey } from "../request/admin-schema";
import { callAboutKey } from "./admin";
import { CONNECTION_HELP, type Connection, connectionTo } from "./connection";
import { keyLines, overrideLine } from "./key-text";

interface KeyOptions {
  readonly url?: string;
  readonly events: number;
  readonly json: boolean;
}

interface BanOptions {
  readonly url?: string;
  readonly for: number;
  readonly reason: string;
}

/** The commands of an admin about one key: `key`, `ban` and `lift`. */
export function addKeys(program: Command): void {
  aboutKey(program, "key", "prints the counters of a key, its last events, and its override")
    .option("--events <number>", "how many events of each counter, newest first", readCount, 10)
    .option("--json", "print the reply of the service as it is", false)
    .action(printKey);
  aboutKey(program, "ban", "admits nothing that counts by a key, until an end")
    .requiredOption("--for <duration>", "how long, such as 90s, 15m, 12h or 7d", readDuration)
    .requiredOption("--reason <text>", "shown to admins who look the key up, and recorded")
    .action(ban);
  aboutKey(program, "lift", "ends the override of a key: its ban, exemption or limits").action(lift);
}

function aboutKey(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .argument("<key>", "such as user:u_1 or ip:203.0.113.7")
    .option("--url <url>", "of the service")
    .addHelpText("after", CONNECTION_HELP);
}

async function printKey(key: string, { events, json, ...given }: KeyOptions): Promise<void> {
  const text = await callAboutKey(connectionTo("admin", given), key, { path: `?events=${events}` });
  console.log(json ? text : keyLines(JSON.parse(text) as KeyState).join("\n"));
}

async function ban(key: string, { for: seconds, reason, ...given }: BanOptions): Promise<void> {
  const body = { kind: "ban", reason, expires_in_seconds: seconds };
  const text = await callOverride(connectionTo("admin", given), key, "PUT", body);
  console.log(overrideLine(JSON.parse(text) as OverriddenKey));
}

async function lift(key: string, given: { readonly url?: string }): Promise<void> {
  await callOverride(connectionTo("admin", given), key, "DELETE");
  console.log(`${key} has no override.`);
}

function callOverride(connection: Connection, key: string, method: string, body?: object): Promise<string> {
  return callAboutKey(connection, key, { method, path: "/override", ...(body && { body }) });
}

function readCount(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It must be a whole number.");
  return Number(text);
}

const SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;

function readDuration(text: string): number {
  const [, count, unit] = /^([1-9]\d*)([smhd])$/.exec(text) ?? [];
  if (unit === undefined)
    throw new InvalidArgumentError("It must be a whole number and a unit: s, m, h or d, such as 12h.");
  return Number(count) * SECONDS[unit as keyof typeof SECONDS];
}
