"""perf_analyzer's files: our points written as its CSV, and what it left read into the tables of a native run."""

from analysis.perf_analyzer.export import csv_text, header, write_csv
from analysis.perf_analyzer.load import read, together
from analysis.perf_analyzer.tables import Imported

__all__ = ["Imported", "csv_text", "header", "read", "together", "write_csv"]
