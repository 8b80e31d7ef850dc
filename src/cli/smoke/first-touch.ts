import { broken, type Line, quantile, timed } from "./line";
import { newSubject, type Policy, type Service } from "./service";

const SUBJECTS = 10;

/**
 * The time to decide about keys that nobody has asked about, and then about the same keys. With an object per key, the first
 * call looks for the object all over the world and creates it.
 */
export async function firstTouch(service: Service, policy: Policy): Promise<Line[]> {
  const subjects = Array.from({ length: SUBJECTS }, () => newSubject(policy));
  // One after the other: together they would wait for each other's connections.
  const decide = async (call: string) => {
    const answers = [];
    for (const subject of subjects) answers.push(await service.post(call, { policy: policy.name, subject }));
    return answers;
  };
  const first = await decide("/v1/consume");
  const next = await decide("/v1/check");
  const failed = [...first, ...next].find(({ status }) => status !== 200);
  if (failed) return [broken("first touch", `${failed.status}: ${JSON.stringify(failed.body)}`, "200")];
  const times = first.map(({ ms }) => ms);
  return [
    timed("first touch of a key, median", quantile(times, 0.5), 500, `, slowest ${Math.round(Math.max(...times))} ms`),
    timed(
      "the same key again, median",
      quantile(
        next.map(({ ms }) => ms),
        0.5,
      ),
      100,
    ),
  ];
}
