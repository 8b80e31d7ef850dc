import { auditSuite } from "../behaviour/audit";
import { batchSuite } from "../behaviour/batch";
import { concurrentSuite } from "../behaviour/concurrent";
import { costSuite } from "../behaviour/costs";
import { errorSuite } from "../behaviour/errors";
import { idempotencySuite } from "../behaviour/idempotency";
import { inlineSuite } from "../behaviour/inline";
import { overrideSuite } from "../behaviour/overrides";
import { PATIENT } from "../behaviour/policies";
import { shadowSuite } from "../behaviour/shadow";
import { behaviourSuite } from "../behaviour/suite";
import { withClock, workerTarget } from "./target";

for (const placement of ["key", "shards:1", "shards:3", "ip=shards:2,user=key,shards:1"]) {
  const target = withClock(workerTarget({ LIMITER_PLACEMENT: placement, ...PATIENT }));
  behaviourSuite(placement, target);
  idempotencySuite(placement, target);
  inlineSuite(placement, target);
  overrideSuite(placement, target);
  auditSuite(placement, target);
  batchSuite(placement, target);
  shadowSuite(placement, target);
  concurrentSuite(placement, target);
  costSuite(placement, target);
}

errorSuite("the edge", workerTarget());
