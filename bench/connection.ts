import { connect, type Socket } from "node:net";

/** A keep-alive connection with one request at a time. Opens again if the server closes it. */
export class Connection {
  /** How often the server closed the connection instead of answering. */
  lost = 0;
  #received = "";
  #request: Buffer | undefined;
  #answered: (status: string) => void = () => {};
  #failed: (error: Error) => void = () => {};

  private constructor(
    private readonly url: URL,
    private socket: Socket,
  ) {
    this.#listen();
  }

  static async open(url: URL): Promise<Connection> {
    return new Connection(url, await openSocket(url));
  }

  /** Sends a request. Resolves with the status of the answer. */
  send(request: Buffer): Promise<string> {
    this.#request = request;
    this.socket.write(request);
    return new Promise((resolve, reject) => {
      this.#answered = resolve;
      this.#failed = reject;
    });
  }

  close(): void {
    this.socket.removeAllListeners("close").destroy();
  }

  #listen(): void {
    this.socket.on("data", (data) => {
      this.#received += data.toString("latin1");
      if (!isWhole(this.#received)) return;
      const status = this.#received.slice(9, 12);
      this.#received = "";
      this.#request = undefined;
      this.#answered(status);
    });
    // A close event follows every error.
    this.socket.on("error", () => {});
    this.socket.once("close", () => this.#reopen().catch((error) => this.#failed(error)));
  }

  async #reopen(): Promise<void> {
    this.#received = "";
    this.socket = await openSocket(this.url);
    this.#listen();
    if (this.#request === undefined) return;
    this.lost++;
    this.socket.write(this.#request);
  }
}

function openSocket({ hostname, port }: URL): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    const refused = ({ message }: Error) => reject(new Error(`A connection could not be opened: ${message}`));
    socket.once("error", refused).once("connect", () => resolve(socket.off("error", refused)));
  });
}

/** Whether the whole answer has arrived. Requires Content-Length, which all measured servers send. */
function isWhole(received: string): boolean {
  const headEnd = received.indexOf("\r\n\r\n");
  if (headEnd < 0) return false;
  const length = /\ncontent-length: *(\d+)/i.exec(received.slice(0, headEnd))?.[1];
  if (length === undefined) throw new Error(`An answer has no Content-Length: ${received.slice(0, headEnd)}`);
  return received.length >= headEnd + 4 + Number(length);
}
