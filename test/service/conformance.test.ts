import { afterAll } from "vitest";
import { errorSuite } from "../behaviour/errors";
import { behaviourSuite } from "../behaviour/suite";
import { Service, variables } from "./process";

for (const placement of ["shards:1", "key"]) {
  const service = await Service.start(variables({ LIMITER_PLACEMENT: placement }));
  afterAll(() => service.stop());
  behaviourSuite(`npm start, ${placement}`, service);
  errorSuite(`npm start, ${placement}`, service);
}
