"""The owner's samples: how they are read, stored, split, labelled and forgotten. Light to import."""

from mmd.samples.form import SampleForm
from mmd.samples.records import Added, NewSample, Outcome, SampleCounts, SampleRecord
from mmd.samples.store import SampleStore

__all__ = ["Added", "NewSample", "Outcome", "SampleCounts", "SampleForm", "SampleRecord", "SampleStore"]
