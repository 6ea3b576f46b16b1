"""The findings as JUnit XML, for the schedulers that read it: one suite a target, one case a question.

PASS is a plain case, FAIL a failure, ERROR and MISSING errors; what is waived or not judged is skipped,
with its reason.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from pipeline.core.outcome import Finding, NotJudged, Outcome
from pipeline.report import kernels
from pipeline.signoff.records import Evidence

#: What XML 1.0 has no way to say (https://www.w3.org/TR/xml/#charsets).
UNSAYABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(evidence: Evidence) -> str:
    """JUnit XML, with the verdict and the grade as properties of the whole."""
    suites: dict[str, list[Finding | NotJudged]] = {}
    everything: list[Finding | NotJudged] = [*evidence.findings, *evidence.not_judged]
    for answer in everything:
        suites.setdefault(str(answer.target), []).append(answer)
    root = ET.Element("testsuites", name=_text(f"sign-off of {evidence.profile.name}"))
    alone = kernels.notes(evidence)
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for name, answers in suites.items():
        suite = ET.SubElement(root, "testsuite", name=_text(name), timestamp=evidence.created.rstrip("Z"))
        properties = ET.SubElement(suite, "properties")
        for key, value in (
            ("verdict", evidence.verdict.name),
            ("release-grade", "yes" if evidence.release_grade else "no"),
            ("evidence-sha256", evidence.sha256),
        ):
            ET.SubElement(properties, "property", name=key, value=value)
        counts = dict.fromkeys(totals, 0)
        for answer in answers:
            kernel = alone.get(answer.key, "") if isinstance(answer, Finding) else ""
            _case(suite, answer, counts, kernel)
        for key, count in counts.items():
            suite.set(key, str(count))
            totals[key] += count
        suite.set("time", "0")
    for key, count in totals.items():
        root.set(key, str(count))
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, answer: Finding | NotJudged, counts: dict[str, int], kernel: str) -> None:
    parts = (answer.case, answer.place, answer.kernel)
    name = " · ".join([answer.check, *(p for p in parts if p)])
    classname = f"{answer.target.profile}.{answer.check}"
    case = ET.SubElement(suite, "testcase", classname=_text(classname), name=_text(name), time="0")
    counts["tests"] += 1
    if isinstance(answer, NotJudged):
        counts["skipped"] += 1
        ET.SubElement(case, "skipped", message=_text(f"not judged: {answer.reason}"))
        return
    if answer.outcome is Outcome.PASS:
        return
    if answer.outcome is Outcome.WAIVED:
        counts["skipped"] += 1
        ET.SubElement(case, "skipped", message=_text(answer.waiver))
        return
    kind = "failure" if answer.outcome is Outcome.FAIL else "error"
    counts[f"{kind}s"] += 1
    mark = ET.SubElement(case, kind, type=answer.outcome.name, message=_text(_first_line(answer.seen)))
    evidence = f"\nkernel: {kernel}" if kernel else ""
    evidence += "".join(f"\nevidence: {e}" for e in answer.evidence)
    mark.text = _text(f"expected: {answer.expected}\nseen: {answer.seen}{evidence}")


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def _text(text: str) -> str:
    return UNSAYABLE.sub("\N{REPLACEMENT CHARACTER}", text)
