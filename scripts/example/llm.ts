import { startProxy } from "./proxy";
import { type ExampleOptions, RunningExample, startLimiter } from "./running";
import { ensureExamplePython, UvicornProcess } from "./uvicorn";

const GATEWAYS = 2;

/** What a user may have: requests and tokens by the minute, and money by the day, in millionths of a dollar. */
const POLICIES = {
  llm: {
    layers: [
      { name: "requests", by: ["user"], limits: ["10/minute"] },
      { name: "tokens", by: ["user"], limits: ["1000/minute"] },
      { name: "budget", by: ["user"], limits: ["20000/day"] },
    ],
  },
};

interface LlmOptions extends ExampleOptions {
  /** How long the model takes for a token. */
  readonly tokenMs?: number;
}

/**
 * Starts the gateway of `examples/llm`: a limiter, a toy model, two processes of the gateway, and one port in front of them.
 * Waits until all of them serve.
 * @throws StartFailure if one does not start. Those that have started end with this process.
 */
export async function startLlm(options: LlmOptions = {}): Promise<RunningExample> {
  const { port = 0, tokenMs = 60 } = options;
  const bin = ensureExamplePython();
  const [{ limiter, token }, model] = await Promise.all([
    startLimiter(POLICIES, options),
    UvicornProcess.start(bin, "llm", "model", { TOKEN_MS: String(tokenMs) }),
  ]);
  const environment = { LIMITER_URL: limiter.url, LIMITER_TOKEN: token, MODEL_URL: model.url };
  const gateways = await Promise.all(
    Array.from({ length: GATEWAYS }, () => UvicornProcess.start(bin, "llm", "gateway", environment)),
  );
  const targets = gateways.map(({ url }) => new URL(url));
  const { server, url } = await startProxy(targets, port);
  return new RunningExample(url, limiter, [model, ...gateways], () => {
    server.close();
    server.closeAllConnections();
  });
}
