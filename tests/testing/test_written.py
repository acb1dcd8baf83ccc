"""Reports for programs: JSON, and JUnit's XML held to the schema of Jenkins (junit-10.xsd of its xunit-plugin)."""

import json
from xml.etree import ElementTree

from penstock.testing.checks import Report, failed, passed, skipped
from penstock.testing.written import as_json, as_junit

REPORT = Report(
    "digits",
    "1",
    [
        passed("server", "starts", "ready"),
        failed("fuzz", "valid rows <are> answered", 'it said "no"\nand \x00\x1b\ud800 more & more', {"rows": 3}),
        skipped("latency", "latency", "no --p99-ms was given"),
    ],
    "2026-01-31T12:00:00+01:00",
    1.25,
    7,
)
# Of the schema: the attributes that an element must and may have, and its children in their order.
COUNTS = {"tests", "failures", "errors", "time"}
SCHEMA: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": (set(), {"name", *COUNTS}, ["testsuite"]),
    "testsuite": (
        {"name"},
        {"timestamp", "hostname", "skipped", "id", "package", *COUNTS},
        ["properties", "testcase", "system-out", "system-err"],
    ),
    "properties": (set(), set(), ["property"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": (
        {"name"},
        {"classname", "time", "status"},
        ["skipped", "error", "failure", "system-out", "system-err"],
    ),
    "failure": (set(), {"message", "type"}, []),
    "skipped": (set(), {"message", "type"}, []),
    "system-out": (set(), set(), []),
}


def valid(element: ElementTree.Element) -> None:
    needed, allowed, children = SCHEMA[element.tag]
    assert needed <= set(element.keys()) <= needed | allowed, element.tag
    places = [children.index(child.tag) for child in element]
    assert places == sorted(places), element.tag
    for child in element:
        valid(child)


def test_junit_is_as_its_readers_want_it() -> None:
    root = ElementTree.fromstring(as_junit(REPORT))
    assert root.tag == "testsuites"
    valid(root)
    (suite,) = root
    cases = suite.findall("testcase")
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    assert suite.get("timestamp") == "2026-01-31T12:00:00"
    assert [float(case.get("time", "")) for case in cases] == [0, 0, 0]
    assert [child.tag for case in cases for child in case] == ["system-out", "failure", "skipped"]
    failure = cases[1][0]
    assert failure.get("message") == 'it said "no"'
    assert failure.text == 'it said "no"\nand \ufffd\ufffd\ufffd more & more'
    assert cases[1].get("name") == "valid rows <are> answered"
    assert {each.get("name"): each.get("value") for each in suite[0]} == {
        "model": "digits",
        "version": "1",
        "seed": "7",
    }


def test_json_has_everything() -> None:
    document = json.loads(json.dumps(as_json(REPORT)))
    assert document["ok"] is False
    assert (document["passed"], document["failed"], document["skipped"], document["seed"]) == (1, 1, 1, 7)
    assert document["checks"][1]["figures"] == {"rows": 3}
    assert [check["outcome"] for check in document["checks"]] == ["passed", "failed", "skipped"]
