// What Grafana makes of the answers of a running aggregator: every route becomes frames of the real @grafana/data,
// and of these must hold what the node graph panel takes for granted.
//
// node contract.mjs AGGREGATOR MODULES DASHBOARD [PROMETHEUS]
//   AGGREGATOR  where it answers, http://host:port
//   MODULES     the folder with node_modules/@grafana/data
//   DASHBOARD   the dashboard whose queries are sent
//   PROMETHEUS  one that scrapes the aggregator: its queries are sent, too

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The library is made for browsers; Node has had this since version 21.
globalThis.navigator ??= { language: "en", languages: ["en"] };

const [aggregator, modules, dashboardPath, prometheus] = process.argv.slice(2);
const {
  applyFieldOverrides,
  createDataFrame,
  createTheme,
  FieldType,
  getFieldDisplayName,
  NodeGraphDataFrameFieldNames: names,
} = createRequire(`${modules}/`)("@grafana/data");

const known = new Set(Object.values(names));
const prefixes = [names.arc, names.detail];
// What stands unescaped in a URL fragment.
const safe = /^[A-Za-z0-9._~-]+$/;
// Names of services are in ids where Prometheus alone makes them.
const safeWithNames = /^[^\s"'()]+$/;

async function get(url) {
  const response = await fetch(url);
  assert.equal(response.status, 200, `${url}: ${response.status}`);
  const kind = response.headers.get("content-type") ?? "";
  return kind.startsWith("application/json") ? response.json() : response.text();
}

// A frame of explicit columns, as data sources make them: a field for each, however many rows there are.
function frameOf(refId, columns, rows) {
  for (const row of rows) {
    for (const { name } of columns) {
      assert.ok(name in row, `${refId}: no ${name} in ${JSON.stringify(row)}`);
    }
  }
  const frame = createDataFrame({
    refId,
    fields: columns.map(({ name, type, config }) => ({
      name,
      type: FieldType[type],
      config: config ?? {},
      values: rows.map((row) => row[name]),
    })),
  });
  // What the panel is given: with names, colours and texts for its values.
  return applyFieldOverrides({
    data: [frame],
    fieldConfig: { defaults: {}, overrides: [] },
    theme: createTheme(),
    replaceVariables: (text) => text,
    timeZone: "utc",
  })[0];
}

function checkFrame(frame, required, what) {
  assert.ok(frame.fields.length > 0, `${what}: a frame without fields is an error`);
  const found = frame.fields.map((field) => field.name);
  assert.equal(new Set(found).size, found.length, `${what}: ${found}`);
  for (const name of required) {
    assert.ok(found.includes(name), `${what}: no field ${name}`);
  }
  for (const field of frame.fields) {
    const { name, type, values } = field;
    assert.equal(name, name.toLowerCase(), what);
    const isKnown = known.has(name) || prefixes.some((prefix) => name.startsWith(prefix));
    assert.ok(isKnown, `${what}: the panel knows no ${name}`);
    assert.ok([FieldType.string, FieldType.number].includes(type), `${what}: ${name} is ${type}`);
    for (const value of values) {
      assert.equal(typeof value, type, `${what}: ${name} has ${JSON.stringify(value)}`);
      assert.ok(type !== FieldType.number || Number.isFinite(value), `${what}: ${name}`);
      assert.equal(typeof field.display(value).text, "string");
    }
    assert.ok(getFieldDisplayName(field, frame).length > 0);
  }
}

const column = (frame, name) => frame.fields.find((field) => field.name === name)?.values ?? [];

// All that the panel takes for granted of the two frames it is given.
function check(frames, what, ids = safe) {
  // Its own rule for which is which.
  const isEdges = (frame) => frame.fields.some((field) => field.name === names.source);
  const [nodes, ...moreNodes] = frames.filter((frame) => !isEdges(frame));
  const [edges, ...moreEdges] = frames.filter(isEdges);
  assert.ok(nodes && edges && !moreNodes.length && !moreEdges.length, what);
  checkFrame(nodes, [names.id], what);
  checkFrame(edges, [names.id, names.source, names.target], what);

  const nodeIds = new Set(column(nodes, names.id));
  for (const frame of [nodes, edges]) {
    const all = column(frame, names.id);
    assert.equal(new Set(all).size, all.length, `${what}: an id twice`);
    for (const id of all) assert.match(id, ids, what);
  }
  for (const end of [names.source, names.target]) {
    for (const id of column(edges, end)) {
      assert.ok(nodeIds.has(id), `${what}: ${id} is the end of an edge and no node`);
    }
  }
  const arcs = nodes.fields.filter((field) => field.name.startsWith(names.arc));
  for (let row = 0; row < nodes.length && arcs.length > 0; row += 1) {
    const shares = arcs.map((field) => field.values[row]);
    assert.ok(shares.every((share) => share >= 0 && share <= 1), `${what}: ${shares}`);
    const sum = shares.reduce((sum, share) => sum + share, 0);
    assert.ok(Math.abs(sum - 1) < 1e-9, `${what}: arcs sum to ${sum}`);
  }
  return { nodes: nodes.length, edges: edges.length };
}

function* objects(value) {
  if (value && typeof value === "object") {
    yield value;
    for (const inner of Object.values(value)) yield* objects(inner);
  }
}

const dashboard = [...objects(JSON.parse(readFileSync(dashboardPath, "utf8")))];
const infinity = dashboard.filter((object) => object.root_selector && object.columns);
assert.deepEqual(
  infinity.map((target) => [target.refId, target.format, target.parser]),
  [
    ["A", "node-graph-nodes", "backend"],
    ["B", "node-graph-edges", "backend"],
  ],
);

// Route 1: the Infinity data source, by the targets of the dashboard.
async function byInfinity(query) {
  const frames = [];
  for (const target of infinity) {
    const document = await get(`${aggregator}${target.url}?${query}`);
    const columns = target.columns.map(({ selector, text, type }) => {
      assert.equal(selector, text, "columns keep their names");
      return { name: text, type };
    });
    frames.push(frameOf(target.refId, columns, document[target.root_selector]));
  }
  return check(frames, `infinity?${query}`);
}

// Route 2: the Node Graph API plugin, which asks for the columns first.
async function byPlugin(query) {
  await get(`${aggregator}/api/health`);
  const fields = await get(`${aggregator}/api/graph/fields?${query}`);
  const data = await get(`${aggregator}/api/graph/data?${query}`);
  const frame = (refId) => {
    const described = fields[`${refId}_fields`];
    assert.ok(Array.isArray(described) && Array.isArray(data[refId]), refId);
    const columns = described.map(({ field_name: name, type, color, displayName }) => ({
      name,
      type,
      config: { displayName, color: color && { mode: "fixed", fixedColor: color } },
    }));
    return frameOf(refId, columns, data[refId]);
  };
  return check([frame("nodes"), frame("edges")], `plugin?${query}`);
}

const now = Date.now();
const nothing = "from=1&to=1000";
const window = `from=${now - 300_000}&to=${now}`;
const bytes = (topology) =>
  topology.edges.reduce((sum, edge) => sum + edge.bytes_to_server + edge.bytes_to_client, 0);

const whole = await get(`${aggregator}/api/v1/topology?${window}`);
for (const route of [byInfinity, byPlugin]) {
  assert.deepEqual(await route(nothing), { nodes: 0, edges: 0 });
  const busiest = await route(window);
  assert.ok(busiest.nodes > 1 && busiest.nodes <= 201, JSON.stringify(busiest));
  assert.ok(busiest.edges > 0);
  const ten = await route(`${window}&limit=10&sort=connections`);
  assert.ok(ten.nodes <= 11 && ten.edges > 0, JSON.stringify(ten));
  const namespaces = await route(`${window}&group_by=namespace`);
  assert.ok(namespaces.nodes >= 1 && namespaces.nodes < 30, JSON.stringify(namespaces));
  const hosts = await route(`${window}&group_by=node`);
  assert.ok(hosts.nodes >= 1 && hosts.nodes < 30, JSON.stringify(hosts));
  const around = await route(`${window}&focus=${whole.nodes[0].id}&depth=1`);
  assert.ok(around.nodes >= 1);
}

// As many services as there are stay readable, and nothing of what they moved is lost.
for (const part of ["limit=10", "limit=200&sort=rtt", "group_by=namespace", "group_by=node"]) {
  const topology = await get(`${aggregator}/api/v1/topology?${window}&${part}`);
  assert.equal(bytes(topology), bytes(whole), part);
  assert.ok(topology.nodes.length <= 201, part);
}
console.log(`${whole.nodes.length} nodes, ${whole.edges.length} edges`);

// Route 3: no plugin at all. Instant queries as tables, whose value becomes `mainstat`.
if (prometheus) {
  const isTable = ({ expr, format }) => expr && format === "table";
  const tables = dashboard.filter((object) => isTable(object) && ["nodes", "edges"].includes(object.refId));
  assert.equal(tables.length, 2);
  const frames = [];
  for (const { refId, expr } of tables) {
    const labels = refId === "nodes" ? ["id", "title", "subtitle"] : ["id", "source", "target"];
    const query = expr.replaceAll("$__range", "1m").replaceAll(/\$(client|server)/g, ".*");
    const answer = await get(`${prometheus}/api/v1/query?query=${encodeURIComponent(query)}`);
    assert.equal(answer.status, "success", query);
    const rows = answer.data.result.map(({ metric, value }) => ({
      // A label that is empty is left out of an answer.
      ...Object.fromEntries(labels.map((label) => [label, metric[label] ?? ""])),
      mainstat: Number(value[1]),
    }));
    assert.ok(rows.length > 0, `${refId}: nothing from ${query}`);
    const columns = labels.map((name) => ({ name, type: "string" }));
    frames.push(frameOf(refId, [...columns, { name: "mainstat", type: "number" }], rows));
  }
  const found = check(frames, "prometheus", safeWithNames);
  console.log(`prometheus: ${found.nodes} nodes, ${found.edges} edges`);
}
