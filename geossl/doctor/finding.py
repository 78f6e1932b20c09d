"""What a look at one thing found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from geossl.errors import GeosslError

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: ``ok``; ``warn``: runs, but not as well as it could or not for everything; ``fail``: runs will fail.
        found: what was found, in a sentence.
        remedy: what to do about it, where something is to be done.
    """

    name: str
    state: State
    found: str
    remedy: str | None = None


def of_error(name: str, error: GeosslError, state: State = "fail") -> Finding:
    """An error of the library as a finding: its facts and its remedy."""
    facts = [str(fact) for fact in (error.where, error.found) if fact is not None]
    return Finding(name, state, ": ".join([error.what, *facts]), error.remedy)


@dataclass(frozen=True)
class Diagnosis:
    """All findings; ``healthy`` when none of them is a failure."""

    healthy: bool
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> Diagnosis:
        """From the findings."""
        return cls(all(finding.state != "fail" for finding in findings), tuple(findings))

    def text(self) -> str:
        """For people: a line each, the remedy under it."""
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.state:<4}  {finding.name:<{width}}  {finding.found}")
            if finding.remedy:
                lines.append(f"      {'':<{width}}  remedy: {finding.remedy}")
        counts = {state: sum(one.state == state for one in self.findings) for state in ("ok", "warn", "fail")}
        return "\n".join([*lines, f"{counts['ok']} ok, {counts['warn']} warn, {counts['fail']} fail"])
