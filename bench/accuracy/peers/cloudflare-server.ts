import { Miniflare } from "miniflare";

/** Serves a Worker with a rate limiting binding of Cloudflare for each limit in BINDINGS. Prints its URL. */
const worker = `export default {
  async fetch(request, env) {
    for (const [binding, key] of new URL(request.url).searchParams) {
      const { success } = await env[binding].limit({ key });
      if (!success) return new Response("denied", { status: 429 });
    }
    return new Response("allowed");
  },
};`;

const miniflare = new Miniflare({
  modules: true,
  script: worker,
  compatibilityDate: "2026-04-26",
  cf: false,
  ratelimits: JSON.parse(process.env.BINDINGS ?? "{}"),
});
console.log(String(await miniflare.ready));
