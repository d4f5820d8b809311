"""A dossier as a JUnit report: one test case a gate."""

from stoker.cli import junit
from stoker.types.releases import GateResult, ReleaseView


def report(view: ReleaseView) -> bytes:
    """Return the report as XML. A gate that was not passed is a failure, one that was left out is skipped."""
    dossier = view.dossier
    facts = {
        "revision": dossier.revision,
        "model": dossier.model,
        "digest": dossier.digest,
        "parent": dossier.parent,
        "state": dossier.state,
        "because": dossier.because,
    }
    cases = [_case(dossier.revision, each) for each in dossier.results]
    return junit.report(f"{dossier.project}/{dossier.endpoint}", cases, facts)


def _case(revision: str, result: GateResult) -> junit.Case:
    name = f"{result.kind} ({result.about})" if result.about else result.kind
    numbers = "\n".join(f"{name} = {value:.6g}" for name, value in result.numbers.items())
    case = junit.Case(revision, name, kind=result.kind, detail=numbers, seconds=result.seconds)
    if result.state == "failed":
        return case._replace(failed=result.because or "it was not passed")
    if result.state in ("skipped", "pending"):
        return case._replace(skipped=result.because or result.state)
    return case._replace(detail=f"{result.because}\n{numbers}")
