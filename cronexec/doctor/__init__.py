"""The doctor: asks the servers and the namespace, judges the answers, and says what to do about each.

Asking is in `examination`; judging is pure, and in a module for each: `broker`, `database`, `jobs`, `events`,
`term`. A server that does not answer is a finding, and keeps nothing from being asked of the other.
"""

from cronexec.doctor.examination import examine
from cronexec.doctor.finding import Finding, Level

__all__ = ["Finding", "Level", "examine"]
