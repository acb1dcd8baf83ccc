// Says what a call costs beside a bare fetch of the same bytes: npm run cost -- URL MODEL 1,2,3,4
import { Client } from "../dist/index.js";

const [url, model, row] = process.argv.slice(2);
const client = new Client(url);
const values = row.split(",").map(Number);
const array = Float32Array.from(values);
const headers = { "Content-Type": "application/json", Accept: "application/json" };
const body = JSON.stringify({ model, inputs: values });
const ways = {
  "bare fetch": async () => (await fetch(`${url}/predict`, { method: "POST", headers, body })).json(),
  "values as JSON": () => client.predict(model, values),
  "a typed array": () => client.predict(model, array),
};
const CALLS = 2000;
const ROUNDS = 5;
const found = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
for (let round = 0; round < ROUNDS; round += 1) {
  for (const [name, call] of Object.entries(ways)) {
    const before = process.cpuUsage();
    for (let count = 0; count < CALLS; count += 1) await call();
    const { user, system } = process.cpuUsage(before);
    found[name].push((user + system) / CALLS);
  }
}
for (const [name, costs] of Object.entries(found)) {
  console.log(`${name}: ${Math.round(costs.sort((one, other) => one - other)[ROUNDS >> 1])} us of CPU a call`);
}
