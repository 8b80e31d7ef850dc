/**
 * The console of a real service in a real browser. The service's clock stands still. Each test starts at noon with empty
 * counters, and no page may have an error at its end.
 */
import { type Browser, type BrowserContextOptions, chromium } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { ServiceProcess } from "../../tools/service-process";
import { Caller, json } from "../behaviour/target";
import { targetOf, variables } from "../service/service";
import { CHROMIUM_ARGUMENTS, ensureChromium } from "./chromium";
import { ConsolePage } from "./console-page";

const ADDRESS = "203.0.113.7";

let browser: Browser;
let opened: ConsolePage[] = [];
export let service: ServiceProcess;
export let caller: Caller;

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: ensureChromium(), args: CHROMIUM_ARGUMENTS });
  service = await startService();
  caller = new Caller(targetOf(service));
});
afterAll(async () => {
  await browser?.close();
  await service?.stop();
});
beforeEach(async () => {
  expect((await service.fetch("/test/reset", { method: "POST" })).status).toBe(204);
  // An instant of another day is shown with its day.
  await setClock({ now: new Date(new Date().setUTCHours(36, 0, 0, 0)).toISOString() });
});
afterEach(async () => {
  const pages = opened;
  opened = [];
  for (const { page } of pages) await page.context().close();
  expect(pages.flatMap(({ errors }) => errors)).toEqual([]);
  // Pages send requests to the service only.
  expect(
    pages.flatMap(({ requestedUrls, url }) => requestedUrls.filter((requested) => !requested.startsWith(`${url}/`))),
  ).toEqual([]);
});

export function startService(more: Record<string, string> = {}): Promise<ServiceProcess> {
  const policies = {
    upload: { layers: [{ name: "caller", by: ["user"], limits: ["3 per 10 seconds"] }] },
    jobs: { layers: [{ name: "caller", by: ["user"], limits: ["2 concurrent per 5 minutes", "30/hour"] }] },
  };
  const set = variables({ RATE_LIMIT_POLICIES: JSON.stringify(policies), ...more });
  return ServiceProcess.start(set, { args: ["--test-clock"] });
}

export async function nowMs(): Promise<number> {
  return Date.parse((await json<{ now: string }>(await service.fetch("/test/clock"))).now);
}

export function advanceLimiter(seconds: number): Promise<void> {
  return setClock({ advance_seconds: seconds });
}

async function setClock(change: object): Promise<void> {
  const response = await service.fetch("/test/clock", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(change),
  });
  expect(response.status).toBe(200);
}

export async function open(options?: BrowserContextOptions, url = service.url): Promise<ConsolePage> {
  const page = await ConsolePage.open(browser, url, await nowMs(), options);
  opened.push(page);
  return page;
}

export async function openSignedIn(options?: BrowserContextOptions): Promise<ConsolePage> {
  const page = await open(options);
  await page.signIn();
  return page;
}

/** Counts all decisions so far in their minutes, before the clock moves. */
export const flushCounts = () => caller.admin("/v1/stats");

/** Sends requests of the policy `chat`, each of a user with an address of its own: `times` for each user. */
export async function chatOf(users: readonly string[], times: number): Promise<void> {
  const requests = users.flatMap((user, i) => {
    const subject = { user, ip: `198.51.100.${i}` };
    return Array.from({ length: times }, () => ({ op: "consume", policy: "chat", subject }));
  });
  expect((await caller.post("/v1/batch", { requests })).status).toBe(200);
}

export const chat = async (user: string, cost = 1) =>
  (await caller.consume("chat", { user, ip: ADDRESS }, cost)).allowed;
