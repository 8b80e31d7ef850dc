/** A limiter under test, over HTTP: with any runtime and any placement. */
export interface Target {
  readonly callerToken: string;
  readonly adminToken: string;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** Moves its clock forward. Left out if the clock can't be moved. */
  advance?(ms: number): void | Promise<void>;
}

export interface LimitBody {
  readonly layer: string;
  readonly key: string;
  readonly limit: number;
  readonly window_seconds: number;
  readonly used: number;
  readonly remaining: number;
  readonly reset_seconds: number;
  readonly shadow?: true;
  readonly override?: string;
}

export interface DecisionBody {
  readonly allowed: boolean;
  readonly id?: string;
  readonly policy: string;
  readonly cost: number | Readonly<Record<string, number>>;
  readonly replayed: boolean;
  readonly degraded: boolean;
  readonly retry_after_seconds: number | null;
  readonly shadow?: true;
  readonly would_deny?: boolean;
  readonly limits: readonly LimitBody[];
}

export interface ProblemBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[];
}

export interface KeyBody {
  readonly key: string;
  readonly override: { readonly kind: string } | null;
  readonly counters: readonly {
    readonly policy: string;
    readonly layer: string;
    readonly limits: readonly Omit<LimitBody, "layer" | "key">[];
    readonly events_total: number;
    readonly events: readonly {
      readonly id: string;
      readonly at: string;
      readonly cost: number;
      readonly admitted_cost?: number;
      readonly released?: true;
    }[];
  }[];
}

/** Makes calls like a backend. */
export class Caller {
  constructor(readonly target: Target) {}

  post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
    return this.target.fetch(path, {
      method: "POST",
      headers: { Authorization: `Bearer ${this.target.callerToken}`, "Content-Type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  }

  async consume(policy: string, subject: Record<string, string>, cost?: number): Promise<DecisionBody> {
    return json(await this.post("/v1/consume", { policy, subject, cost }));
  }

  async check(policy: string, subject: Record<string, string>, cost?: number): Promise<DecisionBody> {
    return json(await this.post("/v1/check", { policy, subject, cost }));
  }

  admin(path: string, init: RequestInit = {}): Promise<Response> {
    return this.target.fetch(path, { ...init, headers: { Authorization: `Bearer ${this.target.adminToken}` } });
  }

  async key(key: string, query = ""): Promise<KeyBody> {
    return json(await this.admin(`/v1/keys/${encodeURIComponent(key)}${query}`));
  }

  /** `used` of every limit: unchanged by a call that must leave no trace. */
  async used(policy: string, subject: Record<string, string>): Promise<number[]> {
    return (await this.check(policy, subject)).limits.map(({ used }) => used);
  }
}

export async function json<T>(response: Response): Promise<T> {
  return (await response.json()) as T;
}

let subjects = 0;

/** A user and an address that no other test has used, unless it starts more than 65,536 of them. */
export function newSubject(): { user: string; ip: string } {
  subjects += 1;
  return {
    user: `u_${crypto.randomUUID()}`,
    ip: `10.${Math.floor(Math.random() * 256)}.${subjects >> 8}.${subjects & 255}`,
  };
}
