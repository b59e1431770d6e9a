"""What is wrong with this installation, and what should its owner do? One function a check; none changes anything."""

from mmd.supervisor.doctor.examine import CHECKS, examine
from mmd.supervisor.doctor.finding import Examined, Finding, Patient, Severity

__all__ = ["CHECKS", "Examined", "Finding", "Patient", "Severity", "examine"]
