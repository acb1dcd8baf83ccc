"""Reports for programs: JSON, and JUnit's XML as Jenkins and GitLab read it."""

from __future__ import annotations

import re
import socket
from typing import Any
from xml.etree import ElementTree

from penstock.testing.checks import Check, Outcome, Report

__all__ = ["as_json", "as_junit"]

# What XML 1.0 has no form for.
_NO_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as a JSON document."""
    return {
        "model": report.model,
        "version": report.version,
        "ok": report.ok,
        "passed": report.count(Outcome.PASSED),
        "failed": report.count(Outcome.FAILED),
        "skipped": report.count(Outcome.SKIPPED),
        "seed": report.seed,
        "started": report.started,
        "seconds": round(report.seconds, 3),
        "checks": [
            {
                "group": check.group,
                "name": check.name,
                "outcome": check.outcome.value,
                "detail": check.detail,
                "figures": dict(check.figures),
                "seconds": round(check.seconds, 3),
            }
            for check in report.checks
        ],
    }


def as_junit(report: Report) -> bytes:
    """Return the report as JUnit's XML: one suite, and a case for each check."""
    counts = {
        "tests": str(len(report.checks)),
        "failures": str(report.count(Outcome.FAILED)),
        "errors": "0",
        "skipped": str(report.count(Outcome.SKIPPED)),
        "time": f"{report.seconds:.3f}",
    }
    name = f"penstock test {report.model}"
    suites = ElementTree.Element(
        "testsuites", {"name": _clean(name), **{k: v for k, v in counts.items() if k != "skipped"}}
    )
    # Without an offset, as the schema has it.
    attributes = {"name": _clean(name), "timestamp": report.started[:19], "hostname": socket.gethostname(), **counts}
    suite = ElementTree.SubElement(suites, "testsuite", attributes)
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in (("model", report.model), ("version", report.version), ("seed", str(report.seed))):
        ElementTree.SubElement(properties, "property", {"name": key, "value": _clean(value)})
    for check in report.checks:
        _add_case(suite, report, check)
    ElementTree.indent(suites)
    written: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _add_case(suite: ElementTree.Element, report: Report, check: Check) -> None:
    attributes = {
        "classname": _clean(f"penstock.{report.model}.{check.group}"),
        "name": _clean(check.name),
        "time": f"{check.seconds:.3f}",
    }
    case = ElementTree.SubElement(suite, "testcase", attributes)
    first = _clean(check.detail.partition("\n")[0])
    if check.outcome is Outcome.FAILED:
        ElementTree.SubElement(case, "failure", {"message": first, "type": check.group}).text = _clean(check.detail)
    elif check.outcome is Outcome.SKIPPED:
        ElementTree.SubElement(case, "skipped", {"message": first})
    else:
        ElementTree.SubElement(case, "system-out").text = _clean(check.detail)


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
