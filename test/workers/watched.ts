import { env } from "cloudflare:workers";
import { decodeCalls } from "../../src/object/message";
import { Caller } from "../behaviour/target";
import { type Bindings, workerTarget } from "./target";

export const real = (env as unknown as Bindings).LIMITER_OBJECTS;

export type Method = "check" | "consume" | "rollBack" | "settle" | "release" | "decide" | "inspect" | "forget";

export type Named = "decide" | "inspect" | "forget";

/** The method of the only call of a message, or "decide" for a message of several calls. */
export function methodOf(name: Named, [message]: unknown[]): Method {
  const calls = name === "decide" ? decodeCalls(String(message)) : [];
  return calls.length === 1 ? (calls[0]?.method ?? name) : name;
}

export interface Call {
  readonly object: string;
  readonly method: Method;
}

/**
 * What happens to a call:
 * - `lost`: it is lost before it arrives. `lostAnswer`: its answer is lost after the object has done its work;
 * - `retryable`, `retryableAnswer`: the same, with an error that says that the call may be retried;
 * - `overloaded`: the object has too much to do;
 * - `hangs`: the call is never answered.
 */
type Fault = "none" | "lost" | "lostAnswer" | "retryable" | "retryableAnswer" | "overloaded" | "hangs";

/** The real objects, with every call recorded, and with faults: connections do not break by themselves on one machine. */
export function watched(
  placement: string,
  faultOf: (call: Call, nth: number) => Fault = () => "none",
  variables: Record<string, unknown> = {},
) {
  const calls: Call[] = [];
  const options: unknown[] = [];
  const namespace = {
    getByName(object: string, option: unknown) {
      options.push(option);
      const stub = real.getByName(object);
      return new Proxy(stub, {
        get(_, name: Named) {
          return async (...args: unknown[]) => {
            const call = { object, method: methodOf(name, args) };
            calls.push(call);
            const fault = faultOf(call, calls.length);
            const error = Object.assign(new Error("connection lost: secret detail"), {
              retryable: fault !== "lost" && fault !== "lostAnswer",
              overloaded: fault === "overloaded",
            });
            if (fault === "hangs") return new Promise(() => {});
            if (fault === "lost" || fault === "retryable" || fault === "overloaded") throw error;
            const answer = await (stub as unknown as Record<Named, (...args: unknown[]) => unknown>)[name](...args);
            if (fault === "lostAnswer" || fault === "retryableAnswer") throw error;
            return answer;
          };
        },
      });
    },
  };
  const target = workerTarget({ LIMITER_PLACEMENT: placement, LIMITER_OBJECTS: namespace, ...variables });
  return { caller: new Caller(target), calls, options };
}

export const methods = (calls: Call[]) => calls.map(({ method }) => method);
