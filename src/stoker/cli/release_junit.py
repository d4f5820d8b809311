"""A dossier as a JUnit report, which every CI shows: one test case a gate."""

from xml.etree.ElementTree import Element, SubElement, tostring

from stoker.types.releases import GateResult, ReleaseView

_CONTROL = {code: None for code in range(32) if chr(code) not in "\t\n"}  # what XML 1.0 has no form for


def report(view: ReleaseView) -> bytes:
    """Return the report as XML. A gate that was not passed is a failure, one that was left out is skipped."""
    dossier = view.dossier
    suite = Element(
        "testsuite",
        name=f"{dossier.project}/{dossier.endpoint}",
        tests=str(len(dossier.results)),
        failures=str(sum(each.state == "failed" for each in dossier.results)),
        skipped=str(sum(each.state in ("skipped", "pending") for each in dossier.results)),
        errors="0",
        time=f"{sum(each.seconds for each in dossier.results):.3f}",
    )
    properties = SubElement(suite, "properties")
    facts = {
        "revision": dossier.revision,
        "model": dossier.model,
        "digest": dossier.digest,
        "parent": dossier.parent,
        "state": dossier.state,
        "because": dossier.because,
    }
    for name, value in facts.items():
        SubElement(properties, "property", name=name, value=_text(value))
    for each in dossier.results:
        _case(suite, dossier.revision, each)
    root = Element("testsuites")
    root.append(suite)
    made: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return made


def _case(suite: Element, revision: str, result: GateResult) -> None:
    name = f"{result.kind} ({result.about})" if result.about else result.kind
    case = SubElement(suite, "testcase", classname=revision, name=name, time=f"{result.seconds:.3f}")
    if result.state == "failed":
        SubElement(case, "failure", message=_text(result.because), type=result.kind).text = _numbers(result)
    elif result.state in ("skipped", "pending"):
        SubElement(case, "skipped", message=_text(result.because))
    else:
        SubElement(case, "system-out").text = _text(f"{result.because}\n{_numbers(result)}")


def _numbers(result: GateResult) -> str:
    return "\n".join(f"{name} = {value:.6g}" for name, value in result.numbers.items())


def _text(value: str) -> str:
    return value.translate(_CONTROL)
