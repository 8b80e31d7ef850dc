import { HubObject } from "../hub/hub";
import { type Env, serviceOf } from "../service";
import { type Bindings, environmentOf } from "./environment";

/** The hub, on the test clock. */
export class TestHubObject extends HubObject {
  protected override get environment(): Env {
    return environmentOf(this.env as unknown as Bindings);
  }

  /** On a clock that stands still a denial would be cached for ever. */
  override async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): Promise<void> {
    await super.webSocketMessage(socket, message);
    serviceOf(this.environment).limiter.clearDenialCache();
  }
}
