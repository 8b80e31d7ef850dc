/** The clock, the timers and the randomness of retries: real, or a simulation's. */
export interface Timing {
  now(): number;
  /** From 0 up to, but not including, 1. */
  random(): number;
  /** Runs `work` after `ms`. Returns a function that cancels it. */
  after(ms: number, work: () => void): () => void;
}

export const realTiming: Timing = {
  now: Date.now,
  random: Math.random,
  after(ms, work) {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
};

/** The same clock with one timer per millisecond: a batch has a deadline for each object that it calls. */
export function sharingTimers(timing: Timing): Timing {
  const due = new Map<number, { readonly works: Set<() => void>; readonly cancel: () => void }>();
  return {
    now: () => timing.now(),
    random: () => timing.random(),
    after(ms, work) {
      const atMs = timing.now() + ms;
      let timer = due.get(atMs);
      if (!timer) {
        const works = new Set<() => void>();
        const ring = () => {
          due.delete(atMs);
          for (const work of works) work();
        };
        timer = { works, cancel: timing.after(ms, ring) };
        due.set(atMs, timer);
      }
      const { works, cancel } = timer;
      works.add(work);
      return () => {
        if (!works.delete(work) || works.size > 0) return;
        cancel();
        due.delete(atMs);
      };
    },
  };
}
