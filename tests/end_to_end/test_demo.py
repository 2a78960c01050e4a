"""`make demo`: photographs in, a page out that says what is degraded, what is foreign, and what a match is worth."""

import re
import subprocess
import sys

import pytest

from tests.paths import ROOT


@pytest.mark.slow
def test_the_demo_flags_what_is_degraded_or_drawn() -> None:
    done = subprocess.run([sys.executable, "-m", "demo.demo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = re.sub(r'src="[^"]*"', "", (ROOT / "demo" / "gallery.html").read_text(encoding="utf-8"))
    copies, clean = map(int, re.findall(r"(\d+) %", page[page.index("of all copies have a flag") - 6 :])[:2])
    assert copies >= 80
    assert clean <= 20
    drawn = page[page.index("No photographs at all") : page.index("Most certain")]
    assert drawn.count('class="flagged"') == 2
    assert "ood" in drawn
    assert page.count("accept<br>") + page.count("review<br>") > 5
    *_, command, address = done.stdout.splitlines()
    assert " open clothes --at " in command
    assert address.endswith("at http://127.0.0.1:8000/ui/#/clothes")
    said = re.findall(r"^\S*/pictures/(\w+)/.*\t(accept|review|abstain \(\w+\))$", done.stdout, re.M)
    assert len(said) == 12
    assert dict(said)["degraded"] == "abstain (ood)"
    assert dict(said)["drawn"] != "accept"
    assert {action for kind, action in said if kind == "clean"} >= {"accept", "abstain (unlikely)"}
