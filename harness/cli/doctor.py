"""``sysvm doctor``."""

from __future__ import annotations

import click

from bundle.cli._options import json_option
from bundle.errors import Exit
from bundle.sink import tell, tell_json


@click.command()
@click.option("--fix", is_flag=True, help="Mend what can be mended safely.")
@json_option
@click.option("--quiet", is_flag=True, help="Print only what is wrong.")
def doctor(fix: bool, as_json: bool, quiet: bool) -> int:
    """Explain what this machine lacks, and mend what is safe."""
    from harness.machine.doctor import examine, mend

    findings = examine()
    if fix and any(not f.ok and f.mend for f in findings):
        findings = mend(findings)
    if as_json:
        fields = ("name", "ok", "required", "text", "remedy")
        tell_json([{key: getattr(f, key) for key in fields} for f in findings])
    else:
        for finding in findings:
            if quiet and (finding.ok or not finding.required):
                continue
            mark = "ok  " if finding.ok else ("FAIL" if finding.required else "note")
            line = f"{mark} {finding.name}: {finding.text}"
            tell(f"{line} -> {finding.remedy}" if finding.remedy and not finding.ok else line)
    return Exit.OK if all(f.ok or not f.required for f in findings) else Exit.INFRASTRUCTURE
