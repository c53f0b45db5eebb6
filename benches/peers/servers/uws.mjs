// The tasks on uWebSockets.js: C++ in Node, plaintext or TLS.
import uWS from "@trufflesuite/uws-js-unofficial";
import { metrics, options, run, sit } from "./task.mjs";

// Without a binary for this Node, the package takes ws instead.
if (!uWS.SSLApp) throw new Error("uWebSockets.js has no binary for this version of Node");

const { host, port, tickMs, tls } = options();
const app = tls ? uWS.SSLApp({ key_file_name: tls.key, cert_file_name: tls.certificate }) : uWS.App();
app
  .ws("/*", {
    compression: uWS.DISABLED,
    open(socket) {
      socket.seat = sit(socket);
      socket.subscribe(socket.seat.room.name);
    },
    // The bytes are valid during the call, and sit's rooms copy what they keep.
    message: (socket, input) => socket.seat.input(new Uint8Array(input)),
    close: (socket) => socket.seat.leave(),
  })
  .get("/*", (response) => response.end(metrics()))
  .listen(host, port, (listening) => {
    if (!listening) throw new Error(`${host}:${port} is in use`);
    console.log("ready");
  });

run(tickMs, (room) => {
  const message = room.message();
  app.publish(room.name, message, typeof message !== "string");
});
