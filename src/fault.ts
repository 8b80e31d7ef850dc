/** Logs a fault fully. An Error in a structured log would be an empty object, so its stack is logged as text. */
export function logFault(message: string, error: unknown, details: Readonly<Record<string, string>> = {}): void {
  console.error({ message, ...details, error: error instanceof Error ? (error.stack ?? String(error)) : error });
}
