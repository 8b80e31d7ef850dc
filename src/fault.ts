/**
 * What may go wrong, by a code that never changes: alerts are made of codes. docs/operations.md says what to do about each,
 * and a test holds it to this table.
 */
export const FAULTS = {
  config_invalid: "The configuration is wrong. Every request is a 503.",
  request_failed: "A request failed.",
  rpc_failed: "An RPC call failed.",
  object_unreachable: "An object could not be reached.",
  object_overloaded: "An object is overloaded. It is left alone for a moment.",
  rollback_failed: "A charge could not be rolled back. It may deny too much for one window.",
  alarm_not_set: "An alarm could not be set.",
  journal_not_checkpointed: "The journal could not be checkpointed. The next write tries again.",
  denial_not_logged: "A denial could not be logged.",
  counts_not_sent: "Counts could not be sent. They are sent again later.",
  counts_given_up: "Counts could not be sent for half an hour. They are lost.",
  counts_not_written: "Counts could not be written. The next write tries again.",
  counts_not_read: "Counts could not be read.",
  audit_unreachable: "The audit object could not be reached.",
  order_not_confirmed:
    "The audit could not note that an order was carried out. It is told as one that may not have been.",
  overridden_keys_not_dropped: "The audit could not drop keys without an override. They are asked about again.",
  sign_in_not_slowed: "LIMITER_FAILED_SIGN_INS could not be asked. The failed sign-in was not slowed down.",
  data_points_not_written: "Data points could not be written to LIMITER_ANALYTICS. They are lost.",
} as const;

export type FaultCode = keyof typeof FAULTS;

type Details = Readonly<Record<string, unknown>>;

/** An overload fails thousands of requests a second, and a line for each would cost more than the decisions. */
const MOST_LINES_A_SECOND = 10;
const SECOND_MS = 1_000;

interface Logged {
  sinceMs: number;
  lines: number;
  /** Faults since the last line that are in no line. */
  leftOut: number;
}

/** The faults of each code in the current second, in this isolate. */
const logged = new Map<FaultCode, Logged>();
let leftOutInAll = 0;
let versionId: string | undefined;

/** The version of the Worker, for the lines. An isolate has one. */
export function setVersion(version: { readonly id: string } | undefined): void {
  versionId = version?.id;
}

/**
 * Logs a fault as one structured line. `details` must name no key, no subject and no token. Of each code an isolate logs ten
 * lines a second. The next line says how many faults were left out before it.
 */
export function logFault(code: FaultCode, error?: unknown, details: Details = {}): void {
  const nowMs = Date.now();
  const faults = faultsOf(code, nowMs);
  if (faults.lines >= MOST_LINES_A_SECOND) {
    faults.leftOut += 1;
    leftOutInAll += 1;
    return;
  }
  faults.lines += 1;
  write(code, faults, { ...details, ...(error !== undefined && { error: textOf(error) }) });
}

/** Logs how many faults were left out, once their second has passed and no other line has said so. */
export function logFaultsLeftOut(): void {
  if (leftOutInAll === 0) return;
  const nowMs = Date.now();
  for (const code of logged.keys()) {
    const faults = faultsOf(code, nowMs);
    if (faults.lines === 0 && faults.leftOut > 0) write(code, faults, {});
  }
}

function faultsOf(code: FaultCode, nowMs: number): Logged {
  const known = logged.get(code);
  // A clock may go back.
  if (known && nowMs >= known.sinceMs && nowMs < known.sinceMs + SECOND_MS) return known;
  const faults = { sinceMs: nowMs, lines: 0, leftOut: known?.leftOut ?? 0 };
  logged.set(code, faults);
  return faults;
}

function write(code: FaultCode, faults: Logged, details: Details): void {
  const { leftOut } = faults;
  faults.leftOut = 0;
  leftOutInAll -= leftOut;
  console.error({
    code,
    message: FAULTS[code],
    ...(versionId !== undefined && { version: versionId }),
    ...details,
    ...(leftOut > 0 && { left_out: leftOut }),
  });
}

/**
 * An Error in a structured log would be an empty object, so its stack is logged as text. What is quoted is left out:
 * `JSON.parse` quotes what it could not read, which may have keys.
 */
function textOf(error: unknown): string {
  if (!(error instanceof Error)) return withoutQuoted(String(error));
  const { message, stack = String(error) } = error;
  return stack.replace(message, () => withoutQuoted(message)).replaceAll(/".*"/g, '"…"');
}

/** From the first quotation mark to the last, since what is quoted may have some of its own. */
function withoutQuoted(text: string): string {
  return text.replace(/"[\s\S]*"/, '"…"');
}
