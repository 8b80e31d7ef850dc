import { errorSuite } from "../behaviour/errors";
import { behaviourSuite } from "../behaviour/suite";
import { withClock, workerTarget } from "./target";

for (const placement of ["key", "shards:1", "shards:3"])
  behaviourSuite(placement, withClock(workerTarget({ LIMITER_PLACEMENT: placement })));

errorSuite("the edge", workerTarget());
