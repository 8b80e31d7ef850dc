import { logFaultsLeftOut } from "../fault";
import type { WaitUntil } from "../objects/asker";
import { countsIn, type Env } from "../service";
import type { Context } from "./app";

/** Has what a request counted sent after its response, and the faults logged that a burst of them left out. */
export function sendingCounts<E extends Env>(fetch: (request: Request, env: E, context: Context) => Promise<Response>) {
  return async (request: Request, env: E, context: Context): Promise<Response> => {
    try {
      return await fetch(request, env, context);
    } finally {
      const waitUntil: WaitUntil = (work) => context.waitUntil(work);
      countsIn(env)?.sendLater(waitUntil);
      logFaultsLeftOut();
    }
  };
}
