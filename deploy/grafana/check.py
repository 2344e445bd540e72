#!/usr/bin/env python3
"""Checks the dashboards without a Grafana.

Grafana itself has no offline checker. This one holds what broke dashboards elsewhere: unknown data
sources, overlapping panels, queries that do not parse, metrics that no program of ours has, and node
graphs with an edge whose end is no node (the panel crashes on those).

usage: check.py DASHBOARD... (promtool on the PATH; run from anywhere)
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/rules"
GRAPH_API = "aggregator/src/http"
SOURCES = ["aggregator/src", "topology/src", "common/src"]
# Series of Prometheus itself and of its Go runtime are not ours to define.
OURS = re.compile(r"\b(weft_[a-z0-9_]+|traces_service_graph_[a-z0-9_]+)\b")
VARIABLES = {
    "$__rate_interval": "5m",
    "$__range": "15m",
    "$client": ".*",
    "$server": ".*",
}


def fail(message):
    sys.exit(f"check.py: {message}")


def sources(folders):
    """The Rust code below some folders, as one text."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.rs"))]
    return "".join(path.read_text(encoding="utf-8") for path in files)


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expand(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    if "$" in re.sub(r'"\$\d"', "", expression):
        fail(f"unknown variable in: {expression}")
    return expression


def queries(dashboard):
    """Every PromQL expression as (panel title, refId, expression)."""
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            if "expr" in target:
                yield panel["title"], target["refId"], expand(target["expr"])


def check_layout(dashboard):
    seen = set()
    cells = {}
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for panel in panels(dashboard):
        title = panel["title"]
        if panel["id"] in seen:
            fail(f"{title}: id {panel['id']} is used twice")
        seen.add(panel["id"])
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            fail(f"{title}: wider than the dashboard")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in cells:
                    fail(f"{title}: lies on {cells[x, y]}")
                cells[x, y] = title
        for holder in [panel, *panel.get("targets", [])]:
            uid = holder["datasource"]["uid"]
            if not uid.startswith("${") or uid[2:-1] not in variables:
                fail(f"{title}: data source {uid} is no variable of the dashboard")


def check_node_graphs(dashboard):
    """The nodes' frame comes first, each frame has what the panel asks for and the API has."""
    served = sources([GRAPH_API])
    for panel in panels(dashboard):
        if panel["type"] != "nodeGraph":
            continue
        title = panel["title"]
        nodes, edges = panel["targets"]
        if "columns" not in nodes:
            continue
        for target, needed in (nodes, {"id"}), (edges, {"id", "source", "target"}):
            names = [column["text"] for column in target["columns"]]
            if not needed <= set(names) or any(name != name.lower() for name in names):
                fail(f"{title}: columns {names}")
            unknown = [name for name in names if not re.search(rf"\b{name}\b", served)]
            if unknown:
                fail(f"{title}: the aggregator serves no {unknown}")
        if {"source", "target"} & {column["text"] for column in nodes["columns"]}:
            fail(f"{title}: the first query would be taken for edges")
        arcs = {arc["field"] for arc in panel["options"]["nodes"]["arcs"]}
        if not arcs <= {column["text"] for column in nodes["columns"]}:
            fail(f"{title}: an arc without a column")


def promtool(arguments, files):
    """Runs promtool on generated files; JSON is YAML."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            pathlib.Path(folder, name).write_text(json.dumps(content), encoding="utf-8")
        result = subprocess.run(
            ["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    if result.returncode != 0:
        fail(f"promtool {' '.join(arguments)}:\n{result.stdout}{result.stderr}")


def check_queries(dashboard):
    rules = [
        {"record": f"query_{number}", "expr": expression}
        for number, (_, _, expression) in enumerate(queries(dashboard))
    ]
    promtool(["check", "rules", "q.yml"], {"q.yml": {"groups": [{"name": "q", "rules": rules}]}})


def check_graph_query(dashboard):
    """Plays traffic of three services through the queries of the plugin-free node graph.

    Rates are rounded: versions of Prometheus differ in the last digit.
    """
    found = {ref: expr for _, ref, expr in queries(dashboard) if ref in ("nodes", "edges")}
    if set(found) != {"nodes", "edges"}:
        fail("no node graph that is fed by Prometheus alone")

    def series(direction, client, server, namespace, port, per_second):
        labels = (
            f'client="{client}",client_namespace="",server="{server}",server_namespace="{namespace}",'
            f'server_port="{port}",direction="{direction}"'
        )
        values = f"0+{per_second * 60}x20"
        return {"series": f"weft_edge_bytes_total{{{labels}}}", "values": values}

    def sample(value, **labels):
        text = ",".join(f'{name}="{label}"' for name, label in labels.items())
        return {"labels": f"{{{text}}}", "value": value}

    test = {
        "interval": "1m",
        "input_series": [
            series("to_server", "web", "db", "data", 5432, 100),
            series("to_client", "web", "db", "data", 5432, 900),
            series("to_server", "cron", "db", "data", 5432, 10),
            # Talks to itself: one node, one edge, counted once.
            series("to_server", "web", "web", "", 80, 5),
        ],
        "promql_expr_test": [
            {
                "expr": f"round({found['nodes']}, 0.001)",
                "eval_time": "20m",
                "exp_samples": [
                    sample(1005, id="/web", title="web"),
                    sample(10, id="/cron", title="cron"),
                    sample(1010, id="data/db", title="db", subtitle="data"),
                ],
            },
            {
                "expr": f"round({found['edges']}, 0.001)",
                "eval_time": "20m",
                "exp_samples": [
                    sample(1000, id="/web:data/db:5432", source="/web", target="data/db",
                           server_port="5432"),
                    sample(10, id="/cron:data/db:5432", source="/cron", target="data/db",
                           server_port="5432"),
                    sample(5, id="/web:/web:80", source="/web", target="/web", server_port="80"),
                ],
            },
        ],
    }
    promtool(["test", "rules", "t.yml"], {"t.yml": {"evaluation_interval": "1m", "tests": [test]}})


def check_metrics(texts):
    """Every metric that is asked for is written down in the programs' sources."""
    source = sources(SOURCES)
    for text in texts:
        for name in OURS.findall(text):
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            bare = re.sub(r"_total$", "", base)
            # Of themselves, the programs write down only what comes after their own name.
            own = re.sub(r"^weft_(agent|aggregator)_", "", base)
            own_bare = re.sub(r"_total$", "", own)
            if not re.search(rf'\b({name}|{base}|{bare})\b|"({own}|{own_bare})"', source):
                fail(f"no program has a metric {name}")


def main(paths):
    texts = [path.read_text(encoding="utf-8") for path in sorted(RULES.glob("*.yml"))]
    # Recorded series and comments are no metrics of ours.
    texts = [re.sub(r"(?m)#.*$|edge:\w+(:\w+)?", "", text) for text in texts]
    for path in paths:
        dashboard = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        check_layout(dashboard)
        check_node_graphs(dashboard)
        check_queries(dashboard)
        check_graph_query(dashboard)
        texts += [re.sub(r"edge:\w+(:\w+)?", "", e) for _, _, e in queries(dashboard)]
        print(f"{path}: {sum(1 for _ in panels(dashboard))} panels")
    check_metrics(texts)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        fail("no dashboard given")
    main(sys.argv[1:])
