import { connect, createServer } from "node:net";

/** `delay.ts PORT` forwards connections to a port of this machine, and delays every part of an answer by 1 ms. */
const target = Number(process.argv[2]);
const server = createServer({ noDelay: true }, (near) => {
  const far = connect({ port: target, host: "127.0.0.1", noDelay: true });
  near.pipe(far);
  far.on("data", (data) => setTimeout(() => near.write(data), 1));
  far.on("end", () => setTimeout(() => near.end(), 1));
  for (const socket of [near, far])
    socket.on("error", () => {
      near.destroy();
      far.destroy();
    });
});
server.listen(0, "127.0.0.1", () => console.log(`port ${(server.address() as { port: number }).port}`));
