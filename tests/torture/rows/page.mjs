// Joins a room with the client that the server serves, over its websocket alone, and prints the number of each tick.
const url = new URL(process.argv[1]);
const source = await (await fetch(new URL("/rtcade.js", url))).text();
const { connect } = await import(`data:text/javascript;base64,${Buffer.from(source).toString("base64")}`);
const room = await connect(url.href, { name: "page" });
room.on("tick", ({ tick }) => process.stdout.write(`${tick}\n`));
