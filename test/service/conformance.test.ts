import { afterAll } from "vitest";
import { ServiceProcess } from "../../tools/service-process";
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
import { targetOf, variables } from "./service";

for (const placement of ["shards:1", "key"]) {
  const service = await ServiceProcess.start(variables({ LIMITER_PLACEMENT: placement, ...PATIENT }));
  afterAll(async () => void (await service.stop()));
  behaviourSuite(`npm start, ${placement}`, targetOf(service));
  idempotencySuite(`npm start, ${placement}`, targetOf(service));
  errorSuite(`npm start, ${placement}`, targetOf(service));
  inlineSuite(`npm start, ${placement}`, targetOf(service));
  overrideSuite(`npm start, ${placement}`, targetOf(service));
  auditSuite(`npm start, ${placement}`, targetOf(service));
  batchSuite(`npm start, ${placement}`, targetOf(service));
  shadowSuite(`npm start, ${placement}`, targetOf(service));
  concurrentSuite(`npm start, ${placement}`, targetOf(service));
  costSuite(`npm start, ${placement}`, targetOf(service));
}
