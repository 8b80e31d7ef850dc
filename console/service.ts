import type { ServiceClock } from "./clock";
import type { Audit, KeyState, Override, OverrideList, OverrideRequest, PolicyList, ProblemBody, Stats } from "./wire";

/** The most events that the service lists. */
export const MOST_EVENTS = 1_000;
/** The most denials that the service remembers of a key. */
const MOST_DENIALS = 10;

/** A mistake at a JSON pointer into the request, in words. */
export interface Mistake {
  readonly pointer: string;
  readonly detail: string;
}

/** A call that was refused or failed, with the message of the service if it sent one. */
export class Failure extends Error {
  constructor(
    /** 0 without an answer. */
    readonly status: number,
    message: string,
    /** Every mistake of a malformed request. */
    readonly mistakes: readonly Mistake[] = [],
    /** The normal form of the key, if the key was in another spelling. */
    readonly normalKey?: string,
  ) {
    super(message);
  }

  /** Whether the service refused the token. */
  get isTokenRefused(): boolean {
    return this.status === 401 || this.status === 403;
  }
}

/** The calls that the console makes, with one token. */
export class Service {
  constructor(
    private readonly token: string,
    private readonly clock: ServiceClock,
  ) {}

  stats(minutes: number): Promise<Stats> {
    return this.#get(`/v1/stats?minutes=${minutes}`);
  }

  policies(): Promise<PolicyList> {
    return this.#get("/v1/policies");
  }

  key(key: string, events = MOST_EVENTS): Promise<KeyState> {
    return this.#get(`${pathOf(key)}?events=${events}&denials=${MOST_DENIALS}`);
  }

  overrides(after: string | null): Promise<OverrideList> {
    return this.#get(`/v1/overrides${after === null ? "" : `?after=${encodeURIComponent(after)}`}`);
  }

  audit(key: string | undefined, before: number | null): Promise<Audit> {
    const query = new URLSearchParams();
    if (key !== undefined) query.set("key", key);
    if (before !== null) query.set("before", String(before));
    return this.#get(`/v1/audit?${query}`);
  }

  async forget(key: string): Promise<void> {
    await this.#call("DELETE", pathOf(key));
  }

  async override(key: string, request: OverrideRequest): Promise<Override> {
    const response = await this.#call("PUT", `${pathOf(key)}/override`, request);
    return ((await response.json()) as { override: Override }).override;
  }

  async lift(key: string): Promise<void> {
    await this.#call("DELETE", `${pathOf(key)}/override`);
  }

  async #get<T>(path: string): Promise<T> {
    return (await this.#call("GET", path)).json() as Promise<T>;
  }

  async #call(method: string, path: string, body?: unknown): Promise<Response> {
    const sentMs = Date.now();
    const headers = { Authorization: `Bearer ${this.token}`, ...(body !== undefined && JSON_TYPE) };
    const init = {
      method,
      headers,
      cache: "no-store",
      ...(body !== undefined && { body: JSON.stringify(body) }),
    } as const;
    const response = await fetch(path, init).catch(() => {
      throw new Failure(0, "The service does not answer.");
    });
    this.clock.adjust(response.headers.get("Date"), sentMs, Date.now());
    if (response.ok) return response;
    throw failureOf(response, await response.json().catch(() => ({})));
  }
}

const JSON_TYPE = { "Content-Type": "application/json" };

function pathOf(key: string): string {
  return `/v1/keys/${encodeURIComponent(key)}`;
}

function failureOf({ status, headers }: Response, { detail, errors = [] }: Partial<ProblemBody>): Failure {
  const [, normalKey] = /^<\/v1\/keys\/([^/>]+)>; rel="canonical"$/.exec(headers.get("Link") ?? "") ?? [];
  const message = detail ?? `The service answered with status ${status}.`;
  return new Failure(status, message, errors, normalKey && decodeURIComponent(normalKey));
}
