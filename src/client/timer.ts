/** Runs `work` after `ms`, unless it is cancelled. In Node the timer does not keep the process alive. */
export function inBackground(ms: number, work: () => unknown): { readonly cancel: () => void } {
  const timer = setTimeout(work, ms);
  (timer as { unref?: () => void }).unref?.();
  return { cancel: () => clearTimeout(timer) };
}
