import { logFault } from "../fault";
import type { Sums } from "./protocol";

export type Analytics = Pick<AnalyticsEngineDataset, "writeDataPoint">;

/**
 * Writes sums to Analytics Engine, a data point for each policy, layer and outcome: the policy, the layer or nothing, the
 * outcome, how many. Requests by token and failed sign-ins have no policy, and the name of the token as their layer.
 */
export function writeDataPoints(analytics: Analytics, { tallies, signIns }: Sums): void {
  const write = (policy: string, layer: string, outcome: string, count: number) =>
    analytics.writeDataPoint({ indexes: [policy], blobs: [policy, layer, outcome], doubles: [count] });
  try {
    for (const [name, tally] of tallies) {
      const [policy = "", layer = ""] = name.split("/");
      for (const [outcome, count] of Object.entries(tally)) write(policy, layer, outcome, count);
    }
    for (const [token, count] of signIns?.requests ?? []) write("", token, "request", count);
    if (signIns?.failed) write("", "", "failed_sign_in", signIns.failed);
  } catch (error) {
    logFault("data_points_not_written", error);
  }
}
