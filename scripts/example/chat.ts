import { startProxy } from "./proxy";
import { type ExampleOptions, RunningExample, startLimiter } from "./running";
import { ensureExamplePython, UvicornProcess } from "./uvicorn";

const BACKENDS = 3;

interface ChatOptions extends ExampleOptions {
  readonly freeMessages?: number;
  /** What the backends decide about a message while the limiter is down. */
  readonly onError?: "deny" | "allow";
}

/**
 * Starts the chat of `examples/chat`: a limiter, several processes of the backend, and one port in front of them. Waits
 * until all of them serve.
 * @throws StartFailure if one does not start. Those that have started end with this process.
 */
export async function startChat(options: ChatOptions = {}): Promise<RunningExample> {
  const { port = 0, freeMessages = 20, onError = "deny" } = options;
  const bin = ensureExamplePython();
  const { limiter, token } = await startLimiter(trial(freeMessages), options);
  const environment = { LIMITER_URL: limiter.url, LIMITER_TOKEN: token, LIMITER_ON_ERROR: onError };
  const numbers = Array.from({ length: BACKENDS }, (_, i) => String(i + 1));
  const backends = await Promise.all(
    numbers.map((number) => UvicornProcess.start(bin, "chat", "backend", { ...environment, PROCESS_NUMBER: number })),
  );
  const targets = backends.map(({ url }) => new URL(url));
  const { server, url } = await startProxy(targets, port);
  return new RunningExample(url, limiter, backends, () => {
    server.close();
    server.closeAllConnections();
  });
}

/** The policy of free messages: counted by the user, and by the address without a user. */
function trial(freeMessages: number) {
  return { trial: { layers: [{ name: "caller", by: ["user", "ip"], limits: [`${freeMessages} per 31 days`] }] } };
}
