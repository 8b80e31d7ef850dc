import { decideFlexibly } from "./flexible";
import { serve } from "./server";
import { connectRedis } from "./store";

serve({ decide: decideFlexibly(connectRedis()) });
