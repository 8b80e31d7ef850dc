import type { IncomingMessage, ServerResponse } from "node:http";

/** Answers a request, well or badly, or leaves it unanswered. */
export type Behaviour = (response: ServerResponse, request: IncomingMessage, body: unknown) => void;
