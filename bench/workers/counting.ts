import { LimiterObject } from "../../src/object/object";
import type { Env } from "../../src/service";
import worker from "../../src/worker";

/** The Worker of the service with counts of what Cloudflare bills: `GET /bench/counts`. */
const objects = new Set<CountingObject>();
const callsByObject = new Map<string, number>();

export class CountingObject extends LimiterObject {
  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env);
    objects.add(this);
  }

  // A property, not a method: methods of the class can be called over RPC.
  readonly rows = (): number => this.store.rowsWritten;
}

/** The stub of an object, with its calls counted. */
function counted<Stub extends object>(object: string, stub: Stub): Stub {
  return new Proxy(stub, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        callsByObject.set(object, (callsByObject.get(object) ?? 0) + 1);
        return Reflect.apply(member, target, args);
      };
    },
  });
}

let countingEnv: Env | undefined;

function counting(env: Env): Env {
  const namespace = env.LIMITER_OBJECTS;
  countingEnv ??= {
    ...env,
    LIMITER_OBJECTS: { getByName: (name, options) => counted(name, namespace.getByName(name, options)) },
  };
  return countingEnv;
}

export default {
  async fetch(request, env, ctx) {
    if (new URL(request.url).pathname !== "/bench/counts") return worker.fetch(request, counting(env), ctx);
    const rowsWritten = [...objects].reduce((sum, object) => sum + object.rows(), 0);
    return Response.json({ callsByObject: Object.fromEntries(callsByObject), rowsWritten });
  },
} satisfies ExportedHandler<Env>;
