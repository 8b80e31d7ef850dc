/** Logs a fault fully: an Error in a structured log would be an empty object. */
export function logFault(message: string, error: unknown, details: Readonly<Record<string, string>> = {}): void {
  console.error({ message, ...details, error: error instanceof Error ? (error.stack ?? String(error)) : error });
}
