"""The scenarios that CI runs on a router: the refusals that share one VM, and of each other kind the quickest."""

from __future__ import annotations

IN_CI = (
    "live-patch",
    "S01-rollback",
    "S02-damaged-scripts-refused",
    "S02-shortened-upload-refused",
    "S03-damaged-agent-refused",
    "S04-refused-then-patched",
    "S05-full-disk-refused",
    "S05-read-only-disk-refused",
    "S06-power-cut",
    "S27-path-outside-refused",
    "S27-unsigned-refused",
    "S27-wrong-signer-refused",
    "S29-service-list-missing",
    "S34-incomplete-bundle-refused",
    "S34-incomplete-host-refused",
    "S38-other-architecture-refused",
    "S41-unknown-type-refused",
    "S43-helper-fails",
    "S48-worker-killed",
    "S51-line-ends-refused",
    "S53-other-release-refused",
)
# Those that the tests of the main job run already.
ELSEWHERE = ("live-patch", "S01-rollback")
